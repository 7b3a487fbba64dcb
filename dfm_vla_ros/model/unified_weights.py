"""The weights of a unified checkpoint: from mapped files to the device, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from dfm_vla_ros.model.folder import CheckpointError, WeightFiles, assign
from dfm_vla_ros.model.stack import Int8Linear
from dfm_vla_ros.model.unified import UnifiedRefiner, restore_buffers
from dfm_vla_ros.model.vision import (
    Emu3ImageTokenizer,
    Emu3VisionConfig,
    FsqConfig,
    FsqTokenizer,
    transformers_names,
)

VISION = "vision"
HEAD = "lm_head.weight"
ACTION_HEAD = "action_head.weight"
Precision = Literal["float32", "bfloat16", "int8"]
ImageTokenizer = Emu3ImageTokenizer | FsqTokenizer


def check_weights(refiner: UnifiedRefiner, vision: ImageTokenizer, folder: Path) -> WeightFiles:
    """Compare the names and shapes in a folder with the networks', reading headers only.

    Raises:
        CheckpointError: a weight is missing, superfluous or of another shape.
    """
    files = WeightFiles(folder)
    expected = {key: value.shape for key, value in refiner.backbone.state_dict().items()}
    if refiner.action_head is not None:
        expected[ACTION_HEAD] = refiner.action_head.weight.shape
    optional = [ACTION_HEAD, *([HEAD] if refiner.config.tied_embeddings else [])]
    files.check(expected, optional)
    inner = inner_network(vision).state_dict()
    WeightFiles(folder / VISION).check({key: value.shape for key, value in inner.items()})
    return files


def load_refiner(
    refiner: UnifiedRefiner,
    files: WeightFiles,
    device: str,
    precision: Precision | None,
    whole: bool,
) -> None:
    """Give ``refiner``, on meta, its weights; see ``UnifiedCheckpoint.load``."""
    dtype = {"float32": torch.float32, None: None}.get(precision, torch.bfloat16)

    def convert(weight: Tensor) -> Tensor:
        return weight.to(device=device, dtype=dtype)

    backbone = refiner.backbone
    names = [key for key in backbone.state_dict() if key != HEAD]
    if precision == "int8":
        names = list(_quantised(backbone, names, files, convert))
    assign(backbone, ((key, files[key]) for key in names), convert)
    restore_buffers(backbone, device)
    refiner.ids = refiner.ids.to(device)
    if refiner.config.tied_embeddings:
        backbone.lm_head.weight = backbone.model.embed_tokens.weight
    if refiner.action_head is not None:
        has = ACTION_HEAD in files.keys()  # noqa: SIM118
        rows = files[ACTION_HEAD] if has else files.rows(HEAD, refiner.ids[:-1].cpu())
        assign(refiner, iter([(ACTION_HEAD, rows)]), convert)
    if whole and not refiner.config.tied_embeddings:
        assign(backbone, iter([(HEAD, files[HEAD])]), convert)
    elif not refiner.config.tied_embeddings:
        refiner.keep_rows(convert(files.rows(HEAD, refiner.ids[:-1].cpu())))


def _quantised(
    backbone: nn.Module,
    names: list[str],
    files: WeightFiles,
    convert: Callable[[Tensor], Tensor],
) -> Iterator[str]:
    """Quantise the linear layers as they are read; yield the names of the other weights."""
    for key in names:
        path, _, _ = key.rpartition(".")
        if isinstance(backbone.get_submodule(path), nn.Linear):
            parent, _, name = path.rpartition(".")
            setattr(backbone.get_submodule(parent), name, Int8Linear(convert(files[key])))
        else:
            yield key


def load_vision(tokenizer: ImageTokenizer, folder: Path, device: str) -> None:
    """Load the image tokenizer in fp32: a code is the nearest of 32,768."""
    files = WeightFiles(folder)
    if isinstance(tokenizer, Emu3ImageTokenizer):
        tokenizer.forget_decoder()
    inner = inner_network(tokenizer)
    weights = ((key, files[key].to(device)) for key in inner.state_dict())
    assign(inner, weights, lambda weight: weight.float())
    tokenizer.to(device).eval().requires_grad_(False)


def make_vision(config: Emu3VisionConfig | FsqConfig) -> ImageTokenizer:
    """Return the image tokenizer of ``config``; a large one without weights."""
    if isinstance(config, FsqConfig):
        return FsqTokenizer(config)
    with torch.device("meta"):
        return Emu3ImageTokenizer(config)


def inner_network(tokenizer: ImageTokenizer) -> nn.Module:
    """Return the module whose names are in ``vision/model.safetensors``."""
    return tokenizer.vqvae if isinstance(tokenizer, Emu3ImageTokenizer) else tokenizer


def whole_weights(refiner: UnifiedRefiner) -> dict[str, Tensor]:
    """Return all weights to save; raises CheckpointError if some were left out or rounded."""
    weights = dict(refiner.backbone.state_dict())
    partial = refiner.head_rows is not None or isinstance(refiner.backbone.lm_head, nn.Identity)
    if partial or any(value.dtype == torch.int8 for value in weights.values()):
        raise CheckpointError(
            "these weights were loaded for inference: load the checkpoint with whole=True and "
            "without int8 to save it"
        )
    if refiner.config.tied_embeddings:
        weights.pop(HEAD)
    if refiner.action_head is not None:
        weights[ACTION_HEAD] = refiner.action_head.weight
    return weights


def vision_weights(folder: Path) -> dict[str, Tensor]:
    """Return an Emu3 image tokenizer's weights, of whatever naming, as transformers names them."""
    files = WeightFiles(folder)
    return transformers_names({key: files[key] for key in sorted(files.keys())})
