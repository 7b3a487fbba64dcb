"""A checkpoint and a twin, ready to run episodes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from dfm_vla_ros.evaluation.runner import Loop, LoopConfig
from dfm_vla_ros.model.folder import CheckpointError
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.robot.kinematics import robot_description
from dfm_vla_ros.robot.limits import JointLimits
from dfm_vla_ros.sim.perturbations import PLAIN_SETTING, Setting
from dfm_vla_ros.sim.twin import Twin


def load_loop(
    checkpoint: Path,
    config: LoopConfig | None = None,
    decoder: dict[str, int] | None = None,
    dark_cameras: Collection[str] = (),
    setting: Setting = PLAIN_SETTING,
) -> Loop:
    """Return a loop of the checkpoint's policy.

    Args:
        checkpoint: folder.
        config: how the loop runs; its ``execute_steps`` are the checkpoint's.
        decoder: ``refinement_steps``, ``validation_steps`` instead of the checkpoint's.
        dark_cameras: that see black.
        setting: of the twin's episodes.

    Raises:
        CheckpointError, TokenizerError: the folder is damaged, or its object poses are not this
            twin's.
    """
    return make_loop(Policy.load(checkpoint, **(decoder or {})), config, dark_cameras, setting)


def make_loop(
    policy: Policy,
    config: LoopConfig | None = None,
    dark_cameras: Collection[str] = (),
    setting: Setting = PLAIN_SETTING,
) -> Loop:
    """Return a loop of ``policy``; see `load_loop`.

    Raises:
        CheckpointError: its object poses are not this twin's.
    """
    if policy.pose_names not in ((), Twin.pose_names):
        raise CheckpointError(
            f"checkpoint {policy.checkpoint_hash[:12]} sees the poses {policy.pose_names}, this "
            f"twin has {Twin.pose_names}: train again on demonstrations of this twin"
        )
    size = {"camera_size": (policy.image_size,) * 2} if policy.cameras else {}
    twin = Twin(**size, setting=setting)
    twin.dark_cameras = dark_cameras
    limits = JointLimits.from_urdf(robot_description())
    config = replace(config or LoopConfig(), execute_steps=policy.execute_steps)
    return Loop(twin, policy.act, policy.tokenizer, limits, config, bool(policy.cameras))
