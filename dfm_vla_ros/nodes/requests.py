"""From an ActionChunk to what the library's executor takes."""

from __future__ import annotations

import numpy as np

from dfm_vla_ros.msg import ActionChunk
from dfm_vla_ros.robot.chunks import Request


def request(message: ActionChunk, observation_s: float) -> Request:
    """Return the request of ``message``, unchecked; it was observed at ``observation_s``."""
    return Request(
        message.tokenizer_hash,
        tuple(message.joint_names),
        message.horizon,
        np.array(message.tokens, dtype=np.int64),
        np.array(message.reference_positions, dtype=np.float64),
        message.control_period,
        observation_s,
        message.mode,
        message.committed_steps,
        message.execute_steps,
        message.expected_interval,
        message.goal_id,
        message.chunk_id,
    )
