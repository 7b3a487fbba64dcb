"""Weights of a unified refiner: loaded to be trained, and put together again to be saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dfm_vla_ros.model.unified import UnifiedRefiner
from dfm_vla_ros.model.unified_checkpoint import UnifiedCheckpoint
from dfm_vla_ros.model.unified_weights import (
    HEAD,
    VISION,
    ImageTokenizer,
    inner_network,
    make_vision,
)
from dfm_vla_ros.model.weights import WeightFiles, assign
from dfm_vla_ros.training.config import ConfigError, TrainConfig
from dfm_vla_ros.training.lora import BACKBONE, add_adapters, merged_weight
from dfm_vla_ros.training.objectives import KINDS, path_config

PRECISIONS = {"keep": None, "bf16": "bfloat16", "fp32": "float32"}
OBJECTIVES = ("embed", "masked", "ar")


def load_to_train(config: TrainConfig) -> UnifiedCheckpoint:
    """Return the checkpoint in ``config.init``; what is to be trained requires gradients.

    Raises:
        CheckpointError, TokenizerError: the folder is damaged.
        ConfigError: the settings do not fit the network.
        LoraError: see `add_adapters`.
    """
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
            config.precision == "bf16" or _is_fp32(checkpoint),
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


def _is_fp32(checkpoint: UnifiedCheckpoint) -> bool:
    return next(checkpoint.refiner.parameters()).dtype == torch.float32


def saved_checkpoint(
    config: TrainConfig, checkpoint: UnifiedCheckpoint, trained: Mapping[str, Tensor]
) -> UnifiedCheckpoint:
    """Return ``checkpoint`` with an ordinary network that acts as the trained one.

    Frozen weights are mapped from the folder that the run began with: those of the network may
    be in shards, or without the decoder of images.

    Args:
        config: of the run.
        checkpoint: that is trained.
        trained: the trained parameters by name, whole, on the CPU.
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
