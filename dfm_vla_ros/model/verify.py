"""Looks at a checkpoint folder: what is in it, and whether all of it is sound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dfm_vla_ros.model.folder import check_hashes, folder_hash, read_content
from dfm_vla_ros.model.loading import AnyCheckpoint, load_checkpoint
from dfm_vla_ros.model.unified_checkpoint import UnifiedCheckpoint
from dfm_vla_ros.model.unified_weights import VISION, check_weights
from dfm_vla_ros.model.weights import CheckpointError, WeightFiles


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
