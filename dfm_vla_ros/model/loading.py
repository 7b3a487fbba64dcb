"""Opens a checkpoint folder, whatever its kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dfm_vla_ros.model.checkpoint import Checkpoint
from dfm_vla_ros.model.folder import (
    CheckpointError,
    WeightFiles,
    check_hashes,
    folder_hash,
    read_config,
    read_content,
    save_weights,
    write_config,
    written_whole,
)
from dfm_vla_ros.model.unified_checkpoint import UnifiedCheckpoint
from dfm_vla_ros.model.unified_weights import VISION, Precision, check_weights
from dfm_vla_ros.model.vision import FsqConfig, FsqTokenizer

AnyCheckpoint = Checkpoint | UnifiedCheckpoint


def load_checkpoint(
    folder: Path | str, device: str = "cpu", precision: Precision | None = None
) -> AnyCheckpoint:
    """Return the checkpoint in ``folder``, ready for inference.

    Args:
        folder: its ``config.json`` says which kind it is; without a kind it is small.
        device: "cpu" or "cuda".
        precision: of a unified checkpoint's language model; None: as in the file.

    Raises:
        CheckpointError, TokenizerError: the folder is incomplete, damaged, or not of one piece.
    """
    kind = read_content(Path(folder)).get("kind", "small")
    if kind == "unified":
        return UnifiedCheckpoint.load(Path(folder), device, precision)
    if kind != "small":
        raise CheckpointError(f"{folder} is of kind {kind!r}; known are small and unified")
    if precision not in (None, "float32"):
        raise CheckpointError(f"a small checkpoint is float32, not {precision}")
    return Checkpoint.load(Path(folder), device)


def describe(folder: Path) -> dict[str, Any]:
    """Return what ``config.json``, the tokenizers and the headers of the weights say.

    Raises:
        CheckpointError, TokenizerError: they do not fit one another.
    """
    folder = Path(folder)
    checkpoint = _opened(folder)
    action = checkpoint.action
    return {
        **asdict(checkpoint.config),
        "tokens": {
            "kind": action.kind,
            "horizon": action.horizon,
            "count": action.token_count,
            "vocabulary": action.vocabulary_size,
            "control_period_s": action.control_period_s,
        },
        "image_sizes": checkpoint.image_sizes,
        "hashes": {name: found.hash for name, found in checkpoint.tokenizers.items()},
        "weights": {path.name: _sizes(path) for path in _weight_folders(folder)},
    }


def verify(folder: Path) -> str:
    """Read every weight and return the hash of the folder.

    Raises:
        CheckpointError, TokenizerError: a file is missing or damaged, a weight is missing,
            superfluous, misshapen or not finite, or a tokenizer has another hash.
    """
    folder = Path(folder)
    checkpoint = _opened(folder)
    check_hashes(folder, checkpoint.config.hashes, checkpoint.tokenizers)
    for part in _weight_folders(folder):
        files = WeightFiles(part)
        for key in sorted(files.keys()):
            weight = files[key]
            if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
                raise CheckpointError(
                    f"weight {key} in {part} is not finite: train on from an earlier checkpoint"
                )
    return folder_hash(folder)


def _opened(folder: Path) -> AnyCheckpoint:
    if read_content(folder).get("kind") != "unified":
        return load_checkpoint(folder)
    checkpoint = UnifiedCheckpoint.without_weights(folder)
    check_weights(checkpoint.refiner, checkpoint.image_tokenizer, folder)
    return checkpoint


def _weight_folders(folder: Path) -> Iterator[Path]:
    yield folder
    if (folder / VISION).is_dir():
        yield folder / VISION


def _sizes(folder: Path) -> dict[str, int]:
    """Return the number of weights of each type, and the bytes of all files."""
    files = WeightFiles(folder)
    counts: Counter[str] = Counter()
    for key in files.keys():  # noqa: SIM118
        shape = torch.Size(files.shape(key))
        counts[files.dtype(key)] += shape.numel()
    return {**counts, "bytes": sum(path.stat().st_size for path in files.paths)}


KIND = "images"


@dataclass(frozen=True)
class ImageTokenizerConfig:
    """``config.json`` of such a folder.

    Attributes:
        image_tokenizer: its size.
        cameras: views it was trained on.
        kind: of the folder.
    """

    image_tokenizer: FsqConfig
    cameras: tuple[str, ...]
    kind: str = KIND


def save_image_tokenizer(
    folder: Path, tokenizer: FsqTokenizer, cameras: tuple[str, ...], readme: str
) -> None:
    """Write a folder that ``vision.checkpoint`` of a training run takes.

    Raises:
        CheckpointError: ``folder`` exists; nothing is overwritten.
    """
    check_absent(folder)
    with written_whole(folder) as partial:
        write_config(partial, ImageTokenizerConfig(tokenizer.config, cameras), readme)
        save_weights(partial, tokenizer.state_dict())


def check_absent(folder: Path) -> None:
    """Raise CheckpointError if ``folder`` exists."""
    if Path(folder).exists():
        raise CheckpointError(f"{folder} exists: give another folder, or move it away")


def load_image_tokenizer(folder: Path) -> tuple[FsqTokenizer, tuple[str, ...]]:
    """Return the frozen tokenizer in ``folder``, and the cameras it is for.

    Args:
        folder: what ``save_image_tokenizer`` wrote, or a small checkpoint.

    Raises:
        CheckpointError, TokenizerError: the folder is missing, incomplete, damaged or of a kind
            whose images are not tokenized by FSQ.
    """
    kind = read_content(Path(folder)).get("kind", "small")
    if kind == "small":
        checkpoint = Checkpoint.load(Path(folder))
        if checkpoint.image_tokenizer is None:
            raise CheckpointError(f"{folder} acts on object poses and has no image tokenizer")
        return checkpoint.image_tokenizer, checkpoint.config.cameras
    if kind != KIND:
        raise CheckpointError(
            f"{folder} is of kind {kind!r}, which has no FSQ image tokenizer: give a folder of "
            f"kind small or {KIND}"
        )
    config = read_config(folder, KIND, ImageTokenizerConfig)
    tokenizer, files = FsqTokenizer(config.image_tokenizer), WeightFiles(folder)
    files.check({key: value.shape for key, value in tokenizer.state_dict().items()})
    tokenizer.load_state_dict({key: files[key] for key in files.keys()})  # noqa: SIM118
    return tokenizer.eval().requires_grad_(False), config.cameras
