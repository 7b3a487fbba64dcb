"""The unified checkpoint: a language model over one vocabulary, with its layout and tokenizers.

``model.safetensors`` (or shards with an index) has the names of transformers' classes, which are
UniVLA's; ``vision/model.safetensors`` is the image tokenizer.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dfm_vla_ros.model.backbones import UnifiedConfig, restore_buffers
from dfm_vla_ros.model.folder import (
    DecoderConfig,
    PathConfig,
    check_hashes,
    read_config,
    write_config,
    written_whole,
)
from dfm_vla_ros.model.fsq import FsqConfig, FsqTokenizer
from dfm_vla_ros.model.int8 import Int8Linear
from dfm_vla_ros.model.observation import check_observation, fitted
from dfm_vla_ros.model.unified import UnifiedRefiner
from dfm_vla_ros.model.vision import Emu3ImageTokenizer, Emu3VisionConfig, transformers_names
from dfm_vla_ros.model.weights import CheckpointError, WeightFiles, assign, save_weights
from dfm_vla_ros.tokens.codec import ActionCodec
from dfm_vla_ros.tokens.layout import Layout
from dfm_vla_ros.tokens.loading import load_action_tokenizer
from dfm_vla_ros.tokens.proprioception import ProprioceptionTokenizer
from dfm_vla_ros.tokens.text import TextTokenizer
from dfm_vla_ros.tokens.text_files import TextEncoder, load_text_tokenizer, text_file

VISION = "vision"
HEAD = "lm_head.weight"
ACTION_HEAD = "action_head.weight"
Precision = Literal["float32", "bfloat16", "int8"]


@dataclass(frozen=True)
class UnifiedCheckpointConfig:
    """All of ``config.json``; the layout is ``tokenizer/layout.json``.

    Attributes:
        refiner: the backbone.
        image_tokenizer: of the published kind, or the small one.
        cameras: views in the order of the layout.
        tasks: task name -> the sentence of its demonstrations.
        execute_steps: steps of a chunk that are executed before the next observation.
        hashes: tokenizer -> its hash.
    """

    refiner: UnifiedConfig
    image_tokenizer: Emu3VisionConfig | FsqConfig
    cameras: tuple[str, ...]
    tasks: dict[str, str]
    execute_steps: int = 4
    path: PathConfig = field(default_factory=PathConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    hashes: dict[str, str] = field(default_factory=dict, compare=False)
    kind: str = "unified"


@dataclass
class UnifiedCheckpoint:
    """Everything that must agree between training and robot."""

    config: UnifiedCheckpointConfig
    refiner: UnifiedRefiner
    image_tokenizer: Emu3ImageTokenizer | FsqTokenizer
    action: ActionCodec
    proprioception: ProprioceptionTokenizer
    text: TextEncoder
    layout: Layout
    text_source: Path | None = None

    @property
    def tokenizers(self) -> dict[str, Any]:
        """The tokenizers and the layout by name."""
        names = ("action", "proprioception", "text", "layout")
        return {name: getattr(self, name) for name in names}

    @property
    def image_sizes(self) -> dict[str, tuple[int, int]]:
        """Camera -> (height, width) that the network sees [px]; others are cut and resized."""
        px = self.layout.patch_px
        return {slot.camera: (slot.rows * px, slot.columns * px) for slot in self.layout.images}

    def save(self, folder: Path, readme: str, shard: int | None = None) -> None:
        """Write the folder whole: it appears under its name only when complete.

        Args:
            folder: where.
            readme: what is to be known of the weights.
            shard: largest size of a file [bytes].

        Raises:
            CheckpointError: the refiner was loaded for inference and lacks its head, or in
                8 bits.
        """
        weights = _whole_weights(self.refiner)
        hashes = {name: tokenizer.hash for name, tokenizer in self.tokenizers.items()}
        with written_whole(folder) as partial:
            self._save_tokenizers(partial)
            write_config(partial, replace(self.config, hashes=hashes), readme)
            save_weights(partial, weights, *(() if shard is None else (shard,)))
            (partial / VISION).mkdir()
            save_weights(partial / VISION, _inner(self.image_tokenizer).state_dict())

    def _save_tokenizers(self, folder: Path) -> None:
        for tokenizer in (self.action, self.proprioception, self.layout):
            tokenizer.save(folder)
        if isinstance(self.text, TextTokenizer):
            self.text.save(folder)
        elif self.text_source is not None:
            shutil.copy(self.text_source, folder / "tokenizer" / self.text_source.name)
        else:
            raise CheckpointError("the text tokenizer has no file: set text_source to it")

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str = "cpu",
        precision: Precision | None = None,
        whole: bool = False,
    ) -> UnifiedCheckpoint:
        """Read a folder; the weights go from the mapped files to the device one by one.

        Args:
            folder: see the module.
            device: "cpu" or "cuda".
            precision: of the language model; None as in the file. ``int8`` quantises its layers
                and leaves the rest in bf16.
            whole: keep all of the language model's head, to train or save; else the rows of the
                actions.

        Raises:
            CheckpointError: a file is missing or damaged, a tokenizer has another hash, or a
                weight is missing, superfluous or of another shape than the configuration says.
            TokenizerError: a tokenizer file is missing or malformed.
        """
        folder = Path(folder)
        if precision not in (None, *get_args(Precision)):
            raise CheckpointError(f"precision is {precision!r}; give {get_args(Precision)}")
        checkpoint = cls.without_weights(folder)
        files = check_weights(checkpoint, folder)
        _load_refiner(checkpoint.refiner, files, device, precision, whole)
        _load_vision(checkpoint, folder / VISION, device)
        checkpoint.refiner.eval().requires_grad_(False)
        return checkpoint

    @classmethod
    def without_weights(cls, folder: Path) -> UnifiedCheckpoint:
        """Return the checkpoint of ``folder`` without its weights."""
        config = read_config(folder, "unified", UnifiedCheckpointConfig)
        layout, action = Layout.load(folder), load_action_tokenizer(folder)
        with torch.device("meta"):
            refiner = UnifiedRefiner(
                config.refiner, layout.action_ids, action.token_count, layout.special["mask"]
            )
        vision = _make_vision(config.image_tokenizer)
        joints, text = ProprioceptionTokenizer.load(folder), load_text_tokenizer(folder)
        parts = (config, refiner, vision, action, joints, text, layout, text_file(folder))
        checkpoint = cls(*parts)
        checkpoint.check()
        check_hashes(folder, config.hashes, checkpoint.tokenizers)
        return checkpoint

    def check(self) -> None:
        """Raise CheckpointError or TokenizerError unless all parts fit one another."""
        self.layout.check(self.action, self.proprioception)
        self.layout.check_text(self.text)
        cameras = tuple(slot.camera for slot in self.layout.images)
        vision = self.config.image_tokenizer
        for what, found, expected in (
            ("vocabulary", self.config.refiner.vocabulary_size, self.layout.vocabulary_size),
            ("cameras", self.config.cameras, cameras),
            ("image patch", vision.patch, self.layout.patch_px),
            ("image vocabulary", vision.vocabulary_size, self.layout.visual.count),
        ):
            if found != expected:
                raise CheckpointError(
                    f"{what} is {found}, the layout expects {expected}: config.json and "
                    "tokenizer/layout.json are of different checkpoints"
                )
        if isinstance(vision, FsqConfig):
            for camera, size in self.image_sizes.items():
                if size != (vision.image_size,) * 2:
                    raise CheckpointError(
                        f"{camera} is {size} px in the layout, {vision.image_size} px square in "
                        "the image tokenizer"
                    )

    def encode_prefix(
        self,
        instruction: str,
        images: Mapping[str, NDArray[np.uint8]],
        positions: NDArray[np.float64],
        commanded: NDArray[np.float64],
    ) -> Tensor:
        """Return one moment as ids (1, P), for ``refiner.prefill``.

        Args:
            instruction: the language goal.
            images: camera -> (H, W, 3) uint8 RGB, any size.
            positions: (D,) measured joints [rad], grippers [m].
            commanded: (D,) commanded joints.

        Raises:
            ObservationError: a camera is missing, or an image or joint array is malformed.
            TokenizerError: the instruction is empty, or a joint is not finite.
        """
        joints = len(self.action.joint_names)
        check_observation(self.config.cameras, joints, images, positions, commanded)
        device = self.refiner.ids.device
        codes = {}
        for camera, (height, width) in self.image_sizes.items():
            view = torch.from_numpy(np.ascontiguousarray(fitted(images[camera], height, width)))
            codes[camera] = self.image_tokenizer.encode(view[None].to(device))[0].cpu().numpy()
        state = [self.proprioception.encode(joints) for joints in (positions, commanded)]
        # A layout may have measured joints alone, or none.
        state = np.concatenate(state)[: self.layout.proprioception_length]
        ids = self.layout.prefix(self.text.encode(instruction), codes, state)
        return torch.from_numpy(ids)[None].to(device)


def check_weights(checkpoint: UnifiedCheckpoint, folder: Path) -> WeightFiles:
    """Compare the names and shapes in a folder with the network's, reading headers only.

    Raises:
        CheckpointError: a weight is missing, superfluous or of another shape.
    """
    refiner, files = checkpoint.refiner, WeightFiles(folder)
    expected = {key: value.shape for key, value in refiner.backbone.state_dict().items()}
    if refiner.action_head is not None:
        expected[ACTION_HEAD] = refiner.action_head.weight.shape
    optional = [ACTION_HEAD, *([HEAD] if refiner.config.tied_embeddings else [])]
    files.check(expected, optional)
    vision = WeightFiles(folder / VISION)
    inner = _inner(checkpoint.image_tokenizer).state_dict()
    vision.check({key: value.shape for key, value in inner.items()})
    return files


def _load_refiner(
    refiner: UnifiedRefiner,
    files: WeightFiles,
    device: str,
    precision: Precision | None,
    whole: bool,
) -> None:
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


def _load_vision(checkpoint: UnifiedCheckpoint, folder: Path, device: str) -> None:
    """Load the image tokenizer in fp32: a code is the nearest of 32,768."""
    tokenizer, files = checkpoint.image_tokenizer, WeightFiles(folder)
    if isinstance(tokenizer, Emu3ImageTokenizer):
        tokenizer.forget_decoder()
    inner = _inner(tokenizer)
    weights = ((key, files[key].to(device)) for key in inner.state_dict())
    assign(inner, weights, lambda weight: weight.float())
    tokenizer.to(device).eval().requires_grad_(False)


def _make_vision(config: Emu3VisionConfig | FsqConfig) -> Emu3ImageTokenizer | FsqTokenizer:
    if isinstance(config, FsqConfig):
        return FsqTokenizer(config)
    with torch.device("meta"):
        return Emu3ImageTokenizer(config)


def _inner(tokenizer: Emu3ImageTokenizer | FsqTokenizer) -> nn.Module:
    return tokenizer.vqvae if isinstance(tokenizer, Emu3ImageTokenizer) else tokenizer


def _whole_weights(refiner: UnifiedRefiner) -> dict[str, Tensor]:
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
