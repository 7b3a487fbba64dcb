"""From a folder as UniVLA saves it to a checkpoint folder; no weight is changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dfm_vla_ros.model.folder import (
    INDEX,
    CheckpointError,
    DecoderConfig,
    PathConfig,
    WeightFiles,
    read_content,
    save_weights,
    write_config,
    written_whole,
)
from dfm_vla_ros.model.unified import BackboneError, UnifiedConfig
from dfm_vla_ros.model.unified_checkpoint import UnifiedCheckpoint, UnifiedCheckpointConfig
from dfm_vla_ros.model.unified_weights import VISION, check_weights, vision_weights
from dfm_vla_ros.model.vision import Emu3VisionConfig
from dfm_vla_ros.robot.model import RobotModel
from dfm_vla_ros.tokens.bins import FILE as JOINTS_FILE
from dfm_vla_ros.tokens.bins import ProprioceptionTokenizer
from dfm_vla_ros.tokens.codec import ActionCodec
from dfm_vla_ros.tokens.ids import ImageSlot
from dfm_vla_ros.tokens.presets import UNIVLA_IMAGES, univla_layout
from dfm_vla_ros.tokens.text import text_file

# UniVLA's class and Emu3's, in BAAI's code and in transformers.
MODEL_TYPES = ("Emu3", "emu3", "emu3_text_model")
NAMES = {
    "vocab_size": "vocabulary_size",
    "hidden_size": "width",
    "intermediate_size": "mlp_width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "key_value_heads",
    "max_position_embeddings": "max_positions",
    "rms_norm_eps": "norm_epsilon",
    "tie_word_embeddings": "tied_embeddings",
}
README = """# Imported from UniVLA

The weights of `{source}` under their own names. They predict the next token: as a refiner they
need training first. Layout: UniVLA's ids, `tokenizer/layout.json`.
"""


@dataclass(frozen=True)
class Import:
    """What goes into the checkpoint beside UniVLA's weights.

    Attributes:
        source: folder with ``config.json`` and safetensors, as ``save_pretrained`` leaves it.
        vision: folder of the image tokenizer (BAAI's Emu3-VisionTokenizer, or transformers').
        action: tokenizer of the actions.
        joints: tokenizer of the joints.
        tasks: task -> sentence.
        images: cameras and the size of their code grids.
        attention: of the prefix: UniVLA's is causal.
        execute_steps: steps of a chunk that are executed before the next observation.
        link: hard-link the weights where that is possible.
        text: file of the text tokenizer, ``emu3.tiktoken``; None: it is in ``source``.
    """

    source: Path
    vision: Path
    action: ActionCodec
    joints: ProprioceptionTokenizer
    tasks: Mapping[str, str]
    images: Sequence[ImageSlot] = UNIVLA_IMAGES
    attention: str = "causal"
    execute_steps: int = 4
    link: bool = True
    text: Path | None = None


def import_univla(what: Import, folder: Path) -> None:
    """Write a checkpoint ``folder`` and check every name and shape in it.

    Raises:
        CheckpointError: the source is no Emu3 language model, its weights are pickled, truncated,
            missing or of other shapes, or a tokenizer does not fit.
    """
    # FAST's ids have no order, and it pads with an end token.
    fast = what.action.kind == "fast"
    config = UnifiedCheckpointConfig(
        backbone_config(read_content(what.source), what.attention),
        vision_config(read_content(what.vision)),
        tuple(slot.camera for slot in what.images),
        dict(what.tasks),
        what.execute_steps,
        *((PathConfig(kind="mixture"), DecoderConfig(target="sample")) if fast else ()),
    )
    layout = univla_layout(
        what.action.vocabulary_size - fast, fast, what.images, 2 * len(what.joints.joint_names)
    )
    text = what.text or text_file(what.source)
    if text is None or not text.is_file():
        raise CheckpointError(f"{what.source} has no emu3.tiktoken: give that of Emu3")
    files = WeightFiles(what.source)
    with written_whole(folder) as partial:
        for tokenizer in (what.action, what.joints, layout):
            tokenizer.save(partial)
        shutil.copy(text, partial / "tokenizer" / text.name)
        (partial / VISION).mkdir()
        save_weights(partial / VISION, vision_weights(what.vision))
        for path in (*files.paths, what.source / INDEX):
            if path.is_file():
                _place(path, partial / path.name, what.link)
        readme = README.format(source=what.source.name)
        write_config(partial, config, readme)
        checkpoint = UnifiedCheckpoint.without_weights(partial)
        check_weights(checkpoint.refiner, checkpoint.image_tokenizer, partial)
        hashes = {name: found.hash for name, found in checkpoint.tokenizers.items()}
        write_config(partial, replace(config, hashes=hashes), readme)


def backbone_config(content: Mapping[str, Any], attention: str = "causal") -> UnifiedConfig:
    """Return the sizes in UniVLA's or Emu3's ``config.json``.

    Raises:
        CheckpointError: it describes another model, or one with parts that are not read.
    """
    content = content.get("text_config") or content
    if content.get("model_type") not in MODEL_TYPES:
        raise CheckpointError(
            f"config.json is of a {content.get('model_type')!r}, expected one of {MODEL_TYPES}"
        )
    for key, allowed in (
        ("action_experts", (None, False)),
        ("rope_scaling", (None, {"rope_type": "default"})),
        ("hidden_act", (None, "silu")),
        ("attention_bias", (None, False)),
        ("mlp_bias", (None, False)),
    ):
        if content.get(key) not in allowed:
            raise CheckpointError(
                f"config.json has {key} = {content[key]!r}, which is not read; give a checkpoint "
                f"with {allowed[-1]!r}"
            )
    sizes = {name: content[key] for key, name in NAMES.items() if key in content}
    rope = content.get("rope_parameters") or content
    if "rope_theta" in rope:
        sizes["rope_theta"] = float(rope["rope_theta"])
    try:
        return UnifiedConfig(architecture="emu3", shift=True, attention=attention, **sizes)
    except (TypeError, BackboneError) as error:
        raise CheckpointError(f"config.json: {error}") from error


def vision_config(content: Mapping[str, Any]) -> Emu3VisionConfig:
    """Return the sizes in an image tokenizer's ``config.json``, of whatever naming."""
    if content.get("double_z") or content.get("double_latent"):
        raise CheckpointError("the image tokenizer has double_z, which is not read")
    return Emu3VisionConfig.read(content.get("vq_config") or content)


def _place(source: Path, target: Path, link: bool) -> None:
    if link:
        try:
            os.link(source.resolve(), target)
        except OSError:  # another file system
            pass
        else:
            return
    shutil.copy(source, target)


def joints_of(folder: Path, action: ActionCodec) -> ProprioceptionTokenizer:
    """Return the joint tokenizer in ``folder``; without one, bins between the URDF's limits."""
    if (folder / JOINTS_FILE).is_file():
        return ProprioceptionTokenizer.load(folder)
    limits = RobotModel(joint_names=action.joint_names).limits()
    return ProprioceptionTokenizer(action.joint_names, limits.lower, limits.upper)


def task_sentences(given: Sequence[str]) -> dict[str, str]:
    """Return task -> sentence of ``NAME=SENTENCE`` texts.

    Raises:
        CheckpointError: one is not of that form.
    """
    pairs = [text.partition("=") for text in given]
    for name, equals, sentence in pairs:
        if not (name and equals and sentence):
            raise CheckpointError(f"{name + equals + sentence!r} is not NAME=SENTENCE")
    return {name: sentence for name, _, sentence in pairs}


def camera_slots(given: Sequence[str]) -> list[ImageSlot]:
    """Return the code grids of ``CAMERA=PIXELS`` texts: 8 px a code, square.

    Raises:
        CheckpointError: one is not of that form, or its side is no multiple of 8.
    """
    slots = []
    for text in given:
        camera, _, side = text.partition("=")
        if not (camera and side.isdigit() and int(side) and int(side) % 8 == 0):
            raise CheckpointError(f"{text!r} is not CAMERA=PIXELS with a multiple of 8")
        slots.append(ImageSlot(camera, int(side) // 8, int(side) // 8))
    return slots
