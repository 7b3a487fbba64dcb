"""What a training run is told: one YAML file and ``key=value`` on the command line.

``dfm-vla train --help-config`` prints every key with its default, bounds and meaning.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import yaml

from dfm_vla_ros.model.checkpoint import DecoderConfig, PathConfig
from dfm_vla_ros.model.vision import FsqConfig
from dfm_vla_ros.schema import (
    ConfigError,
    Texts,
    differing,
    key,
    parse,
    plain,
    read_yaml,
    settings,
)


@settings
class UnifiedTrainConfig:
    """Fine-tuning of a unified checkpoint, which ``init`` names."""

    attention: Literal["keep", "causal", "bidirectional", "full"] = key(
        "keep", "of the prefix; keep: as in the checkpoint. full allows one replica"
    )
    action_head: Literal["keep", "tied", "separate"] = key(
        "keep", "separate: rows of the head for the actions alone, which start as the model's"
    )
    action_rows: bool = key(
        True,
        "with lora: train the embeddings of the action ids too, which may have meant other things",
    )
    frozen: Literal["keep", "bf16", "fp32"] = key(
        "keep", "with lora: precision of the frozen weights; keep: as in the checkpoint"
    )


FREE = (
    "out",
    "resume",
    "threads",
    "device",
    "token_cache",
    "max_seconds",
    "save_every",
    "sharding",
)
"""Keys that a resumed run may change; those of ``evaluation`` and ``log_every`` too."""


@settings
class VisionConfig:
    """Training of the small image tokenizer, which is frozen afterwards."""

    network: FsqConfig = key(FsqConfig(), "size of the image tokenizer")
    checkpoint: str = key(
        "",
        "take the image tokenizer of this folder (a small checkpoint, or what dfm-vla tokenizer "
        "fit-images wrote) instead of training one",
    )
    images_per_episode: int = key(7, "images of each camera and episode to train on", ge=1)
    steps: int = key(1500, "optimiser steps", ge=1)
    batch: int = key(48, "images a step", ge=1)
    lr: float = key(2e-3, "peak of the one-cycle learning rate", gt=0)


@settings
class NetworkConfig:
    """Size of the small refiner."""

    width: int = key(192, "of the residual stream; a multiple of heads", ge=1)
    layers: int = key(4, "of the transformer", ge=1)
    heads: int = key(6, "of the attention", ge=1)
    text_length: int = key(
        8, "words of an instruction; more are cut; 0: it is not read at all", ge=0
    )
    grouping: int = key(
        14, "action tokens that share a position: 14 groups the joints of a step, 1 none", ge=1
    )


@settings
class AugmentationConfig:
    """Changes of what the network sees in training."""

    code_dropout: float = key(0.02, "share of the image patches that are blanked", ge=0, le=1)
    variants: int = key(
        0,
        "changed versions of every frame, encoded once and cached; each sample takes the clean "
        "frame or one of them with equal chance",
        ge=0,
    )
    brightness: float = key(0.2, "largest relative change of brightness", ge=0, le=1)
    contrast: float = key(0.2, "largest relative change of contrast", ge=0, le=1)
    shift_px: int = key(3, "largest shift of the image in either direction [px]", ge=0)
    joint_shift_rad: float = key(
        0.0,
        "deviation of a shift of the measured and commanded arm joints, whose labels lead back; "
        "for small data sets",
        ge=0,
        le=0.1,
    )
    pose_shift_m: float = key(
        0.0,
        "observation poses: deviation of a shift of each object; it turns by ten radians a metre",
        ge=0,
        le=0.1,
    )


@settings
class EvaluationConfig:
    """Episodes in the twin during training."""

    every: int = key(0, "steps between evaluations, and once at the end; 0: none", ge=0)
    episodes: int = key(10, "of each task", ge=1)
    seed: int = key(
        900_000,
        "of the first episode; the same ones each time. Published figures use 1,000,000 and up",
        ge=0,
    )
    timeout_s: float = key(20.0, "longest episode [s]", gt=0)
    workers: int = key(1, "processes", ge=1)


@settings
class LoraConfig:
    """Low-rank adapters (peft) instead of all weights, for the large model."""

    rank: int = key(0, "of the adapters; 0: train all weights", ge=0)
    alpha: float = key(16.0, "scale of the adapters, over rank", gt=0)
    dropout: float = key(0.0, "in front of the adapters", ge=0, le=1)
    targets: Texts = key(("q_proj", "k_proj", "v_proj", "o_proj"), "modules that get adapters")


@settings
class TrainConfig:
    """One run."""

    data: Texts = key(..., "folders of data sets (dfm-vla collect, dfm-vla convert)")
    out: str = key(..., "folder of the run: state, checkpoints, metrics; a stopped run goes on")
    episodes: int = key(0, "use at most so many episodes of each task and folder; 0: all", ge=0)
    held_out: float = key(0.03, "share of the episodes that is only measured on", ge=0, le=0.9)
    init: str = key(
        "", "start from the weights and tokenizers of this checkpoint; a unified one is fine-tuned"
    )
    observation: Literal["images", "poses"] = key(
        "images", "what is seen of the scene; poses are known in the twin alone"
    )
    cameras: Texts = key((), "look through these alone; none named: through all")
    objective: Literal["embed", "head", "ar", "masked", "l1"] = key(
        "embed",
        "embed: metric path, cross-entropy; head: mixture path and a velocity head; ar: from left "
        "to right, teacher-forced; masked: masked diffusion; l1: regression of the token values",
    )
    steps: int = key(8000, "optimiser steps", ge=0)
    max_seconds: float = key(
        0.0,
        "stop after so much training time [s], 0: never. The learning rate then follows time or "
        "steps, whichever is further; such a run is not repeatable to the digit",
        ge=0,
    )
    batch: int = key(32, "prefixes a step, over all processes", ge=1)
    accumulate: int = key(1, "parts that each process's share of a batch is cut into", ge=1)
    replicas: int = key(
        4, "noised action sequences a prefix, the first at t = 0; ar and l1 have one", ge=1
    )
    horizon: int = key(8, "steps of a chunk", ge=1)
    action_vocabulary: int = key(256, "bins of an action token", ge=4)
    optimiser: Literal["muon", "adamw"] = key(
        "muon", "muon: Muon for the transformer's matrices, AdamW for the rest; adamw: for all"
    )
    lr: float = key(1.5e-3, "peak learning rate of AdamW", gt=0)
    muon_lr: float = key(3e-3, "peak learning rate of Muon, scaled to AdamW's update", gt=0)
    beta2: float = key(0.95, "of AdamW", ge=0, le=0.99999)
    epsilon: float = key(1e-8, "of AdamW, beside the root of the second moment", gt=0)
    weight_decay: float = key(0.05, "decoupled", ge=0)
    warmup_steps: int = key(200, "linear warm-up, before a cosine to 1%", ge=0)
    clip: float = key(1.0, "largest norm of the gradient", gt=0)
    ema: float = key(
        0.998, "decay of the average of the weights, which is saved; 0: none", ge=0, le=1
    )
    time_power: float = key(2.0, "t = u ** time_power, u uniform in 0..1", gt=0)
    smoothing_bins: float = key(1.5, "deviation of the label over bins; 0: one-hot", ge=0)
    teacher_noise_bins: float = key(
        0.0, "ar: deviation of noise on the tokens that the next are predicted from", ge=0
    )
    precision: Literal["bf16", "fp32"] = key("bf16", "of matrix products; weights stay fp32")
    sharding: Literal["none", "fsdp"] = key(
        "none",
        "with several processes; none: each has all weights (DDP); fsdp: weights, gradients and "
        "the optimiser's state are shared out, for models that do not fit otherwise",
    )
    gradient_checkpointing: bool = key(
        False, "compute activations again in the backward pass: less memory, a third more time"
    )
    seed: int = key(0, "of weights, order, noise and augmentation", ge=0, le=2**31)
    threads: int = key(1, "of torch on the CPU", ge=1)
    device: Literal["auto", "cpu", "cuda"] = key("auto", "auto: a GPU where there is one")
    save_every: int = key(1000, "steps between saved states and checkpoints", ge=1)
    log_every: int = key(50, "steps between rows of metrics.csv", ge=1)
    keep_best: Literal["held_loss", "success"] = key(
        "held_loss", "what decides which checkpoint is kept as best/"
    )
    resume: bool = key(True, "go on where the run in out stopped; false: refuse to")
    token_cache: str = key(
        "", "folder of cached image tokens, shared between runs; default: image_tokens beside out"
    )
    augmentation: AugmentationConfig = key(AugmentationConfig(), "changes of what is seen")
    evaluation: EvaluationConfig = key(EvaluationConfig(), "episodes in the twin during training")
    lora: LoraConfig = key(LoraConfig(), "low-rank adapters, for a unified model")
    unified: UnifiedTrainConfig = key(UnifiedTrainConfig(), "fine-tuning of a unified model")
    vision: VisionConfig = key(VisionConfig(), "the image tokenizer")
    network: NetworkConfig = key(NetworkConfig(), "the small refiner")
    path: PathConfig = key(
        PathConfig(), "the probability path; its kind follows from the objective"
    )
    decoder: DecoderConfig = key(
        DecoderConfig(), "how the policy decodes; its method follows from the objective"
    )

    def __post_init__(self) -> None:
        """Check what involves several keys."""
        checks = (
            (bool(self.data), "data is empty: name at least one data set"),
            (
                self.network.width % self.network.heads == 0,
                f"network.width is {self.network.width}, no multiple of network.heads, "
                f"{self.network.heads}",
            ),
            (
                self.keep_best != "success" or self.evaluation.every > 0,
                "keep_best is success, but nothing is evaluated: set evaluation.every",
            ),
            (
                self.sharding == "none" or self.optimiser == "adamw",
                "sharding is fsdp, where Muon has no whole matrices: set optimiser=adamw",
            ),
            (
                self.lora.rank == 0 or bool(self.init),
                f"lora.rank is {self.lora.rank}, but there are no weights to adapt: set init",
            ),
            (
                self.batch % self.accumulate == 0,
                f"batch is {self.batch}, no multiple of accumulate, {self.accumulate}",
            ),
        )
        for good, message in checks:
            if not good:
                raise ConfigError(message)


def load_config(path: Path, overrides: Iterable[str] = ()) -> TrainConfig:
    """Return the run that ``path`` describes, with ``key=value`` or ``group.key=value`` on top.

    Raises:
        ConfigError: the file is missing or not YAML, or a key, a type or a value is wrong; the
            message names the key, and the nearest one that exists or the bound.
    """
    content = read_yaml(path, overrides)
    if isinstance(content.get("unified"), dict):
        content["unified"].pop("held_frames", None)  # older runs have it; it never did anything
    return parse(TrainConfig, content, str(path))


def as_yaml(config: TrainConfig) -> str:
    """Return all keys with their values."""
    return yaml.safe_dump(plain(config), sort_keys=False)


def changes(old: TrainConfig, new: TrainConfig) -> list[str]:
    """Return ``key: old -> new`` of what makes ``new`` another run than ``old``."""
    return [
        f"{name}: {mine} -> {other}"
        for name, mine, other in differing(old, new)
        if name not in (*FREE, "log_every") and not name.startswith("evaluation.")
    ]
