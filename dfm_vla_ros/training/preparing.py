"""From data sets to an untrained checkpoint with fitted tokenizers, and what to train it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dfm_vla_ros.data.dataset import open_datasets
from dfm_vla_ros.model.checkpoint import Checkpoint, CheckpointConfig
from dfm_vla_ros.model.loading import load_image_tokenizer, save_image_tokenizer
from dfm_vla_ros.model.refiner import Refiner, RefinerConfig
from dfm_vla_ros.model.vision import FsqTokenizer
from dfm_vla_ros.robot.joints import ARMS, CAMERAS, JOINT_NAMES
from dfm_vla_ros.schema import ConfigError
from dfm_vla_ros.tokens.action import ActionTokenizer
from dfm_vla_ros.tokens.bins import PoseTokenizer, ProprioceptionTokenizer
from dfm_vla_ros.tokens.text import TextTokenizer
from dfm_vla_ros.training.config import TrainConfig
from dfm_vla_ros.training.frames import (
    EpisodeSource,
    Frames,
    list_sources,
    make_frames,
    read_resized,
    sample_images,
)
from dfm_vla_ros.training.objectives import KINDS, path_config
from dfm_vla_ros.training.run_folder import replaced
from dfm_vla_ros.training.vision import train_image_tokenizer


def load_sources(config: TrainConfig) -> list[EpisodeSource]:
    """Return the episodes of all data sets; raises DatasetError or ConfigError."""
    return list_sources(open_datasets([Path(folder) for folder in config.data]), config.episodes)


def cameras_of(config: TrainConfig, sources: Sequence[EpisodeSource]) -> tuple[str, ...]:
    """Return the cameras that all data sets have, ours in the usual order; () for poses."""
    if config.observation == "poses":
        return ()
    first = sources[0].dataset.cameras
    for source in sources:
        if set(source.dataset.cameras) != set(first):
            raise ConfigError(
                f"{source.dataset.folder} has cameras {source.dataset.cameras}, "
                f"{sources[0].dataset.folder} has {first}: train on data sets of one kind"
            )
    if not first:
        raise ConfigError("the data sets have no camera: set observation=poses")
    lacking = set(config.cameras) - set(first)
    if lacking:
        raise ConfigError(
            f"cameras names {', '.join(sorted(lacking))}; the data sets have {', '.join(first)}"
        )
    ordered = [*(c for c in CAMERAS if c in first), *(c for c in first if c not in CAMERAS)]
    return tuple(c for c in ordered if c in (config.cameras or first))


def prepare(
    config: TrainConfig, kept: Path, device: str | torch.device = "cpu"
) -> tuple[Checkpoint, Frames, list[EpisodeSource]]:
    """Return a refiner to train with its tokenizers, the frames, and where they came from.

    Args:
        config: of the run.
        kept: folder of the image tokenizer that this run has trained, or will.
        device: to train it on.

    Raises:
        DatasetError, CheckpointError, ConfigError: the data sets, the checkpoint to start from
            or the settings do not fit together.
    """
    sources = load_sources(config)
    frames = make_frames(sources, config.horizon)
    cameras = cameras_of(config, sources)
    if config.init:
        return _continued(config, frames, cameras), frames, sources
    vision = image_tokenizer(config, sources, cameras, kept, device)
    return fresh(config, frames, cameras, vision), frames, sources


def image_tokenizer(
    config: TrainConfig,
    sources: Sequence[EpisodeSource],
    cameras: tuple[str, ...],
    kept: Path,
    device: str | torch.device = "cpu",
) -> FsqTokenizer | None:
    """Return the frozen image tokenizer: given, kept from an earlier start, or trained now."""
    if not cameras:
        return None
    given = config.vision.checkpoint or (str(kept) if kept.is_dir() else "")
    if given:
        return load_image_tokenizer(Path(given))[0]
    vision = config.vision
    episodes = read_resized(sources, cameras, vision.network.image_size)
    images = sample_images(episodes, cameras, vision.images_per_episode, config.seed)
    trained = train_image_tokenizer(images, vision, config.seed, device)
    with replaced(kept) as partial:
        save_image_tokenizer(partial, trained, cameras, "# Image tokenizer of this run\n")
    return trained


def fresh(
    config: TrainConfig, frames: Frames, cameras: tuple[str, ...], vision: FsqTokenizer | None
) -> Checkpoint:
    """Return an untrained checkpoint of the configured size with tokenizers for ``frames``."""
    action = fit_action(config, frames)
    text = TextTokenizer.fit(frames.sentences, config.network.text_length)
    proprioception, poses = fit_proprioception(frames), _fit_poses(config, frames)
    network, joints = config.network, len(frames.joint_names)
    _check_grouping(network.grouping, config.horizon, joints)
    sizes = RefinerConfig(
        views=len(cameras),
        grid=0 if vision is None else vision.config.grid,
        levels=() if vision is None else vision.config.levels,
        text_vocabulary=text.vocabulary_size,
        text_length=text.length,
        proprioception_vocabulary=proprioception.vocabulary_size,
        arms=len(ARMS) if frames.joint_names == JOINT_NAMES else 1,
        horizon=config.horizon,
        action_dim=joints,
        action_vocabulary=config.action_vocabulary,
        grouping=network.grouping,
        width=network.width,
        layers=network.layers,
        heads=network.heads,
        outputs=KINDS[config.objective][0].outputs,
        poses=len(poses.names) if poses else 0,
    )
    torch.manual_seed(config.seed)
    described = CheckpointConfig(
        sizes,
        None if vision is None else vision.config,
        cameras,
        frames.tasks,
        path=path_config(config),
        decoder=replace(config.decoder, method=KINDS[config.objective][0].method),
        poses=poses.names if poses else (),
    )
    parts = (Refiner(sizes), vision, action, proprioception, text, poses)
    return Checkpoint(described, *parts)


def _check_grouping(grouping: int, horizon: int, joints: int) -> None:
    if horizon * joints % grouping:
        raise ConfigError(
            f"network.grouping is {grouping}: give a divisor of the {horizon * joints} action "
            f"tokens, such as the {joints} joints"
        )


def fit_action(config: TrainConfig, frames: Frames) -> ActionTokenizer:
    """Return the action tokenizer of the frames: arms relative, grippers absolute."""
    grippers = [name for name in frames.joint_names if "gripper" in name]
    seen = (frames.targets, frames.commanded, frames.joint_names)
    return ActionTokenizer.fit(*seen, grippers, frames.period_s, config.action_vocabulary)


def fit_proprioception(frames: Frames) -> ProprioceptionTokenizer:
    """Bounds of the joints seen in the data, with a tenth of their span (0.01 at least) around."""
    seen = np.concatenate([frames.positions, frames.commanded])
    low, high = seen.min(axis=0), seen.max(axis=0)
    margin = np.maximum(0.1 * (high - low), 0.01)
    bounds = np.round(low - margin, 4), np.round(high + margin, 4)
    return ProprioceptionTokenizer(frames.joint_names, *bounds)


def _fit_poses(config: TrainConfig, frames: Frames) -> PoseTokenizer | None:
    if config.observation == "images":
        return None
    if frames.poses is None or len(frames.poses) != len(frames):
        raise ConfigError(
            "observation is poses, but the data sets have none: collect them in the twin"
        )
    return PoseTokenizer.fit(frames.pose_names, frames.poses)


def _continued(config: TrainConfig, frames: Frames, cameras: tuple[str, ...]) -> Checkpoint:
    """Return the checkpoint to start from, with the tasks and the decoder of this run."""
    checkpoint = Checkpoint.load(Path(config.init))
    kind, found = KINDS[config.objective][0], checkpoint.config
    for what, mine, theirs in (
        ("horizon", config.horizon, found.refiner.horizon),
        ("action_vocabulary", config.action_vocabulary, found.refiner.action_vocabulary),
        ("objective: outputs", kind.outputs, found.refiner.outputs),
        ("cameras", cameras, found.cameras),
        ("joints", frames.joint_names, checkpoint.action.joint_names),
        ("control period", frames.period_s, checkpoint.action.control_period_s),
    ):
        if mine != theirs:
            raise ConfigError(f"{what} is {mine}, but {config.init} has {theirs}: give the same")
    checkpoint.config = replace(
        found,
        tasks={**found.tasks, **frames.tasks},
        path=path_config(config),
        decoder=replace(config.decoder, method=kind.method),
        hashes={},
    )
    checkpoint.refiner.requires_grad_(True)
    return checkpoint
