"""Opens a checkpoint folder, whatever its kind."""

from __future__ import annotations

from pathlib import Path

from dfm_vla_ros.model.checkpoint import Checkpoint
from dfm_vla_ros.model.folder import read_content
from dfm_vla_ros.model.unified_checkpoint import UnifiedCheckpoint
from dfm_vla_ros.model.unified_weights import Precision
from dfm_vla_ros.model.weights import CheckpointError

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
