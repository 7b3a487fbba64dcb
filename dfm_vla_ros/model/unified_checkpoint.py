"""The unified checkpoint: a language model over one vocabulary, with its layout and tokenizers.

``model.safetensors`` (or shards with an index) has the names of transformers' classes, which are
UniVLA's; ``vision/model.safetensors`` is the image tokenizer.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfm_vla_ros.model.folder import (
    CheckpointError,
    DecoderConfig,
    PathConfig,
    check_hashes,
    read_config,
    save_weights,
    write_config,
    written_whole,
)
from dfm_vla_ros.model.unified import UnifiedConfig, UnifiedRefiner
from dfm_vla_ros.model.unified_weights import (
    VISION,
    ImageTokenizer,
    Precision,
    check_weights,
    inner_network,
    load_refiner,
    load_vision,
    make_vision,
    whole_weights,
)
from dfm_vla_ros.model.vision import Emu3VisionConfig, FsqConfig, check_observation, fitted
from dfm_vla_ros.tokens.bins import ProprioceptionTokenizer
from dfm_vla_ros.tokens.codec import ActionCodec
from dfm_vla_ros.tokens.layout import Layout
from dfm_vla_ros.tokens.loading import load_action_tokenizer
from dfm_vla_ros.tokens.text import TextEncoder, TextTokenizer, load_text_tokenizer, text_file


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
    image_tokenizer: ImageTokenizer
    action: ActionCodec
    proprioception: ProprioceptionTokenizer
    text: TextEncoder
    layout: Layout
    text_source: Path | None = None

    pose_names: ClassVar[tuple[str, ...]] = ()
    grouping: ClassVar[int] = 1
    outputs: ClassVar[str] = "logits"

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
        weights = whole_weights(self.refiner)
        hashes = {name: tokenizer.hash for name, tokenizer in self.tokenizers.items()}
        with written_whole(folder) as partial:
            self._save_tokenizers(partial)
            write_config(partial, replace(self.config, hashes=hashes), readme)
            save_weights(partial, weights, *(() if shard is None else (shard,)))
            (partial / VISION).mkdir()
            save_weights(partial / VISION, inner_network(self.image_tokenizer).state_dict())

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
        files = check_weights(checkpoint.refiner, checkpoint.image_tokenizer, folder)
        load_refiner(checkpoint.refiner, files, device, precision, whole)
        load_vision(checkpoint.image_tokenizer, folder / VISION, device)
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
        vision = make_vision(config.image_tokenizer)
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
        poses: NDArray[np.float64] | None = None,
    ) -> Tensor:
        """Return one moment as ids (1, P), for ``refiner.prefill``.

        Args:
            instruction: the language goal.
            images: camera -> (H, W, 3) uint8 RGB, any size.
            positions: (D,) measured joints [rad], grippers [m].
            commanded: (D,) commanded joints.
            poses: not read: a layout has no place for them.

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
