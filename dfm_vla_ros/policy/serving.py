"""A policy as ``remote.server`` serves it."""

from __future__ import annotations

import time
from collections.abc import Callable

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.types import Observation
from dfm_vla_ros.remote.protocol import About, ActReply, ActRequest


class NotServable(DfmVlaError):
    """A policy that needs what no request carries."""


def about(policy: Policy) -> About:
    """Return what a client has to know of ``policy``.

    Raises:
        NotServable: it sees object poses, which only the twin knows.
    """
    if policy.pose_names:
        raise NotServable(
            f"the checkpoint sees {len(policy.pose_names)} object poses, which only the twin "
            "knows: give one with cameras, or run it with dfm-vla eval"
        )
    names = policy.tokenizer.joint_names
    return About(
        checkpoint_hash=policy.checkpoint_hash,
        cameras=policy.cameras,
        image_sizes=policy.image_sizes,
        state_names=names,
        action_names=names,
        horizon=policy.horizon,
        execute_steps=policy.execute_steps,
        control_period_s=policy.control_period_s,
        tasks=policy.tasks,
    )


def answering(policy: Policy) -> Callable[[ActRequest], ActReply]:
    """Return the function from a request to the decoded chunk of ``policy``.

    It raises ObservationError and TokenizerError as ``Policy.act`` does.
    """

    def act(request: ActRequest) -> ActReply:
        began_s = time.perf_counter()
        observation = Observation(request.images, request.state, request.commanded, request.prompt)
        chunk = policy.act(observation, request.seed)
        actions = policy.tokenizer.decode(chunk.tokens, chunk.reference)
        return ActReply(actions, time.perf_counter() - began_s, chunk.evaluations)

    return act
