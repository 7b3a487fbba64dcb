"""LoRA (arXiv 2106.09685) for unified refiners: adapters beside frozen weights, merged on save.

With A and B of low rank, B from zero: ``W x + alpha / rank B A x``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from peft import LoraConfig as PeftConfig
from peft import inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.model.unified import UnifiedRefiner
from dfm_vla_ros.training.config import LoraConfig

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
    names = {name.rpartition(".")[2] for name, _ in _linear_layers(refiner.layers)}
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


def has_adapters(refiner: UnifiedRefiner) -> bool:
    """Return whether ``refiner`` has adapters."""
    return any(isinstance(module, LoraLayer) for module in refiner.modules())


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


def _linear_layers(network: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            yield name, module
