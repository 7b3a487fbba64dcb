"""A folder with an image tokenizer alone, and the image tokenizer of any small checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dfm_vla_ros.model.checkpoint import Checkpoint
from dfm_vla_ros.model.folder import read_config, read_content, write_config, written_whole
from dfm_vla_ros.model.fsq import FsqConfig, FsqTokenizer
from dfm_vla_ros.model.weights import CheckpointError, WeightFiles, save_weights

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
