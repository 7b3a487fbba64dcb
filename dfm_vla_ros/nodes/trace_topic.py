"""``policy_node/trace``: how each chunk was decoded, while somebody subscribes."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode

from dfm_vla_ros.msg import ActionChunk, PolicyTrace
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.policy.types import Trace


class TraceTopic:
    """Publishes PolicyTrace."""

    def __init__(self, node: LifecycleNode) -> None:
        """Publish on ``~/trace``."""
        self._topic = node.create_lifecycle_publisher(PolicyTrace, "~/trace", qos.EVERY_COMMAND)

    @property
    def wanted(self) -> bool:
        """Whether a chunk that begins now should be traced: somebody subscribes."""
        return self._topic.get_subscription_count() > 0

    def publish(self, trace: Trace, chunk: ActionChunk) -> None:
        """Publish the trace that ``chunk`` came of."""
        self._topic.publish(to_message(trace, chunk))


def to_message(trace: Trace, chunk: ActionChunk) -> PolicyTrace:
    """Return the message, which names its chunk.

    Tokens rather than paths: they are exact, and what they mean is worked out where it is shown.
    """
    message = PolicyTrace(
        observation_stamp=chunk.observation_stamp,
        goal_id=chunk.goal_id,
        chunk_id=chunk.chunk_id,
        tokenizer_hash=chunk.tokenizer_hash,
        joint_names=chunk.joint_names,
        reference_positions=chunk.reference_positions,
        control_period=chunk.control_period,
        horizon=chunk.horizon,
        committed_steps=chunk.committed_steps,
        committed=trace.committed.tolist(),
        kinds=list(trace.kinds),
        times=_packed("d", trace.times, np.float64),
        tokens=_packed("H", trace.tokens, np.uint16),
        targets=_packed("H", trace.targets, np.uint16),
        jumped=trace.jumped.ravel().tolist(),
        confidence=_packed("f", trace.confidence, np.float32),
    )
    message.header.stamp = chunk.header.stamp
    return message


def _packed(code: str, values: NDArray, kind: type) -> array:
    """Return ``values`` as the array that a field takes without a check per element."""
    return array(code, np.ascontiguousarray(values, dtype=kind).tobytes())
