"""LoRA (arXiv 2106.09685) for unified refiners: adapters beside frozen weights, merged on save."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from peft import LoraConfig as PeftConfig
from peft import inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.model.unified import UnifiedRefiner
from dfm_vla_ros.model.unified_checkpoint import UnifiedCheckpoint

ADAPTER = "default"
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraError(DfmVlaError):
    """Adapters that cannot be made."""


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters: ``W x + alpha / rank B A x``, B from zero.

    Attributes:
        rank: of A and B; 0: no adapters, all weights are trained.
        alpha: the update is scaled by ``alpha / rank``.
        dropout: of the input of A, in training.
        targets: names of the layers' projections that get an adapter.
        action_rows: whether the embeddings of the action ids are trained too, and the head's
            rows where ``action_head`` is ``separate``: for ids that meant something else before.
    """

    rank: int = 0
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = PROJECTIONS
    action_rows: bool = True


class ActionRows(nn.Module):
    """An embedding whose rows of the action ids are trained, and no others."""

    def __init__(self, whole: nn.Embedding, ids: Tensor) -> None:
        """Start with the rows that ``whole`` has for ``ids`` (K + 1,)."""
        super().__init__()
        self.whole = whole
        self.rows = nn.Parameter(whole.weight.detach()[ids].float().clone())
        places = torch.full((whole.num_embeddings,), -1, device=ids.device)
        places[ids] = torch.arange(len(ids), device=ids.device)
        self.register_buffer("ids", ids.clone(), persistent=False)
        self.register_buffer("places", places, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Return (..., width) of ``ids`` (...)."""
        places, fixed = self.places[ids], self.whole(ids)
        trained = nn.functional.embedding(places.clamp(min=0), self.rows).to(fixed.dtype)
        return trained.where((places >= 0).unsqueeze(-1), fixed)

    def merged(self) -> Tensor:
        """Return the whole matrix with the trained rows in it."""
        weight = self.whole.weight.detach().clone()
        weight[self.ids] = self.rows.detach().to(weight.dtype)
        return weight


def add_adapters(refiner: UnifiedRefiner, config: LoraConfig) -> None:
    """Freeze ``refiner`` and give its projections adapters, which alone are trained.

    Raises:
        LoraError: a target is no projection of the layers, or the rows of a tied embedding are
            to be trained.
    """
    names = {name.rpartition(".")[2] for name, _ in _linear_layers(refiner.layers)}
    unknown = sorted(set(config.targets) - names)
    if unknown or not config.targets:
        raise LoraError(f"lora.targets {unknown or '()'} are none of {sorted(names)}")
    if config.action_rows and refiner.config.tied_embeddings:
        raise LoraError("lora.action_rows needs tied_embeddings false: the head is the embedding")
    refiner.requires_grad_(False)
    peft = PeftConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.targets),
    )
    inject_adapter_in_model(peft, refiner.layers, ADAPTER)
    if config.action_rows:
        refiner.layers.embed_tokens = ActionRows(refiner.layers.embed_tokens, refiner.ids)
        if refiner.action_head is not None:
            refiner.action_head.requires_grad_(True)


def has_adapters(refiner: UnifiedRefiner) -> bool:
    """Return whether ``refiner`` has adapters."""
    return any(isinstance(module, LoraLayer) for module in refiner.modules())


def merged_weights(refiner: UnifiedRefiner) -> Iterator[tuple[str, Tensor]]:
    """Yield name and weight of every parameter of ``refiner`` as it is without adapters.

    The network is not changed: adding an update to bf16 weights and taking it off again would
    round them each time.
    """
    for name, module in refiner.named_modules():
        for key, weight in module.named_parameters(recurse=False):
            whole = f"{name}.{key}" if name else key
            if name.endswith(".base_layer"):
                adapted = refiner.get_submodule(name.removesuffix(".base_layer"))
                if key == "weight":
                    update = adapted.get_delta_weight(ADAPTER).to(torch.float32)
                    weight = (weight.detach().float() + update).to(weight.dtype)
                yield whole.replace(".base_layer", ""), weight.detach()
            elif isinstance(module, ActionRows):
                yield f"{name}.weight", module.merged()
            elif ".lora_" not in whole and not whole.endswith("embed_tokens.whole.weight"):
                yield whole, weight.detach()


def merged(checkpoint: UnifiedCheckpoint) -> UnifiedCheckpoint:
    """Return ``checkpoint`` with an ordinary refiner that acts as its adapted one.

    What has no adapter is shared, not copied.
    """
    adapted = checkpoint.refiner
    with torch.device("meta"):
        plain = UnifiedRefiner(
            checkpoint.config.refiner,
            adapted.ids[:-1].tolist(),
            adapted.token_count,
            int(adapted.ids[-1]),
        )
    weights = dict(merged_weights(adapted))
    plain.load_state_dict(weights, assign=True)
    if checkpoint.config.refiner.tied_embeddings:
        plain.backbone.lm_head.weight = plain.backbone.model.embed_tokens.weight
    plain.backbone.model.rotary_emb = adapted.backbone.model.rotary_emb
    plain.ids = adapted.ids
    return replace(checkpoint, refiner=plain.eval().requires_grad_(False))


def _linear_layers(network: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            yield name, module
