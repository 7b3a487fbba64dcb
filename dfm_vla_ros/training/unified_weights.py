"""Weights of a unified refiner: loaded to be trained, and put together again to be saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from peft import LoraConfig as PeftConfig
from peft import inject_adapter_in_model
from torch import Tensor, nn

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.model.folder import WeightFiles, assign
from dfm_vla_ros.model.unified import UnifiedRefiner
from dfm_vla_ros.model.unified_checkpoint import UnifiedCheckpoint
from dfm_vla_ros.model.unified_weights import (
    HEAD,
    VISION,
    ImageTokenizer,
    inner_network,
    make_vision,
)
from dfm_vla_ros.training.config import ConfigError, LoraConfig, TrainConfig
from dfm_vla_ros.training.objectives import KINDS, path_config

ADAPTER = "default"
BACKBONE, EMBEDDING = "backbone.", "model.embed_tokens.weight"


class LoraError(DfmVlaError):
    """Adapters that cannot be made."""


class ActionRows(nn.Module):
    """An embedding whose rows of the action ids are trained, and no others."""

    def __init__(self, whole: nn.Embedding, ids: Tensor) -> None:
        """Start with the rows that ``whole`` has for ``ids`` (K + 1,)."""
        super().__init__()
        self.whole = whole
        self.rows = nn.Parameter(whole.weight.detach()[ids].float().clone())
        places = torch.full((whole.num_embeddings,), -1, device=ids.device)
        places[ids] = torch.arange(len(ids), device=ids.device)
        self.register_buffer("places", places, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Return (..., width) of ``ids`` (...)."""
        places, fixed = self.places[ids], self.whole(ids)
        trained = nn.functional.embedding(places.clamp(min=0), self.rows).to(fixed.dtype)
        return trained.where((places >= 0).unsqueeze(-1), fixed)


def add_adapters(refiner: UnifiedRefiner, config: LoraConfig, action_rows: bool) -> None:
    """Freeze ``refiner`` and give its projections adapters, which alone are trained.

    Args:
        refiner: on the CPU.
        config: rank, scale and projections.
        action_rows: whether the embeddings of the action ids are trained too: for ids that meant
            something else before. A head of the actions' own is always trained.

    Raises:
        LoraError: a target is no projection of the layers, or the rows of a tied embedding are
            to be trained.
    """
    layers = refiner.layers.named_modules()
    names = {n.rpartition(".")[2] for n, module in layers if isinstance(module, nn.Linear)}
    unknown = sorted(set(config.targets) - names)
    if unknown or not config.targets:
        raise LoraError(f"lora.targets {unknown or '()'} are none of {sorted(names)}")
    if action_rows and refiner.config.tied_embeddings:
        raise LoraError(
            "unified.action_rows is true, but the embedding is the head too: set it to false"
        )
    refiner.requires_grad_(False)
    peft = PeftConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.targets),
    )
    inject_adapter_in_model(peft, refiner.layers, ADAPTER)
    for name, parameter in refiner.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()  # beside weights in bf16 too
    if action_rows:
        refiner.layers.embed_tokens = ActionRows(refiner.layers.embed_tokens, refiner.ids)
    if refiner.action_head is not None:
        refiner.action_head.float().requires_grad_(True)


def merged_weight(
    key: str, base: Tensor, trained: Mapping[str, Tensor], config: LoraConfig, ids: Tensor
) -> Tensor:
    """Return the weight that an ordinary network needs to act as the adapted one.

    Args:
        key: name in the backbone, as in a checkpoint's file.
        base: the frozen weight.
        trained: parameters of the adapted refiner that were trained, by their names.
        config: of the adapters.
        ids: (K + 1,) of the actions and MASK.
    """
    module = BACKBONE + key.removesuffix(".weight")
    rows = trained.get(f"{module}.rows")
    if key == EMBEDDING and rows is not None:
        whole = base.clone()
        whole[ids] = rows.to(base.dtype)
        return whole
    down, up = (trained.get(f"{module}.lora_{half}.{ADAPTER}.weight") for half in "AB")
    if down is None or up is None:
        return base
    update = up.float() @ down.float() * (config.alpha / config.rank)
    return (base.float() + update).to(base.dtype)


PRECISIONS = {"keep": None, "bf16": "bfloat16", "fp32": "float32"}
OBJECTIVES = ("embed", "masked", "ar")


def load_to_train(config: TrainConfig) -> UnifiedCheckpoint:
    """Return the checkpoint in ``config.init``; what is to be trained requires gradients."""
    lora = config.lora.rank > 0
    precision = PRECISIONS[config.unified.frozen] if lora else "float32"
    checkpoint = UnifiedCheckpoint.load(Path(config.init), "cpu", precision, whole=True)
    checkpoint = _switched(config, checkpoint)
    _check(config, checkpoint)
    refiner = checkpoint.refiner
    if lora:
        torch.manual_seed(config.seed)
        add_adapters(refiner, config.lora, config.unified.action_rows)
    else:
        refiner.requires_grad_(True)
        if refiner.action_head is not None and not refiner.config.tied_embeddings:
            refiner.backbone.lm_head.requires_grad_(False)  # nothing reads it
    if config.gradient_checkpointing:
        refiner.backbone.activation_checkpointing_enable({"use_reentrant": False})
    return checkpoint


def _switched(config: TrainConfig, checkpoint: UnifiedCheckpoint) -> UnifiedCheckpoint:
    """Return ``checkpoint`` with the attention, head, path and decoder of this run."""
    refiner, wanted = checkpoint.refiner, config.unified
    changed = {
        name: value
        for name, value in (("attention", wanted.attention), ("action_head", wanted.action_head))
        if value != "keep"
    }
    refiner.config = replace(refiner.config, **changed)
    if refiner.config.action_head == "tied":
        refiner.action_head = None
    elif refiner.action_head is None:
        rows = refiner.backbone.lm_head.weight[refiner.ids[:-1]]
        refiner.action_head = nn.Linear(rows.shape[1], len(rows), bias=False, dtype=rows.dtype)
        refiner.start_head()
    described = replace(
        checkpoint.config,
        refiner=refiner.config,
        tasks=dict(checkpoint.config.tasks),
        path=path_config(config),
        decoder=replace(config.decoder, method=KINDS[config.objective][0].method),
    )
    return replace(checkpoint, config=described)


def _check(config: TrainConfig, checkpoint: UnifiedCheckpoint) -> None:
    network, causal = checkpoint.config.refiner, KINDS[config.objective][0].causal
    weights = next(checkpoint.refiner.parameters())
    for good, message in (
        (
            config.objective in OBJECTIVES,
            f"objective is {config.objective}: a unified model has {', '.join(OBJECTIVES)}",
        ),
        (
            not causal or (network.shift and network.attention == "causal"),
            "objective is ar: it needs a model with shift and unified.attention causal",
        ),
        (
            network.attention != "full" or causal or config.replicas == 1,
            f"replicas is {config.replicas}, but with attention full the prefix sees the "
            "actions: set replicas=1",
        ),
        (
            checkpoint.action.kind != "fast" or _without_order(config),
            "tokens of kind fast have no order: set smoothing_bins=0, decoder.target=argmax and, "
            "for embed, path.kind=mixture",
        ),
        (
            config.precision == "bf16" or weights.dtype == torch.float32,
            "precision is fp32, but the frozen weights are not: set unified.frozen=fp32",
        ),
        (
            config.observation == "images",
            "observation is poses: a unified model has no place for them",
        ),
    ):
        if not good:
            raise ConfigError(message)


def _without_order(config: TrainConfig) -> bool:
    """Return whether nothing in ``config`` relies on neighbouring tokens being alike."""
    path = config.objective != "embed" or config.path.kind == "mixture"
    return path and config.smoothing_bins == 0 and config.decoder.target != "median"


def saved_checkpoint(
    config: TrainConfig, checkpoint: UnifiedCheckpoint, trained: Mapping[str, Tensor]
) -> UnifiedCheckpoint:
    """Return ``checkpoint`` with an ordinary network that acts as the ``trained`` one.

    Frozen weights are mapped from the folder that the run began with: those of the network may
    be in shards, or without the decoder of images.
    """
    with torch.device("meta"):
        plain = UnifiedRefiner(
            checkpoint.config.refiner,
            checkpoint.layout.action_ids,
            checkpoint.action.token_count,
            checkpoint.layout.special["mask"],
        )
    plain.load_state_dict(_whole(config, plain, trained), assign=True)
    vision = _whole_vision(checkpoint, Path(config.init))
    return replace(checkpoint, refiner=plain, image_tokenizer=vision)


def _whole(
    config: TrainConfig, plain: UnifiedRefiner, trained: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return every weight of ``plain``, in the precision of the folder that it began with."""
    files = WeightFiles(Path(config.init))
    there, found = files.keys(), {}
    for name in plain.state_dict():
        key = name.removeprefix(BACKBONE)
        if name in trained:
            source = key if key in there else HEAD
            found[name] = trained[name].to(files[source].dtype)
        elif key == HEAD and plain.config.tied_embeddings:
            found[name] = found[f"{BACKBONE}model.embed_tokens.weight"]
        else:
            found[name] = merged_weight(key, files[key], trained, config.lora, plain.ids)
    return found


def _whole_vision(checkpoint: UnifiedCheckpoint, folder: Path) -> ImageTokenizer:
    """Return the image tokenizer with its decoder, which training does without."""
    tokenizer, files = make_vision(checkpoint.config.image_tokenizer), WeightFiles(folder / VISION)
    inner = inner_network(tokenizer)
    assign(inner, ((key, files[key]) for key in inner.state_dict()), lambda weight: weight)
    return tokenizer
