"""A solver's record of one chunk as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dfm_vla_ros.flow.types import TraceStep
from dfm_vla_ros.policy.types import Guidance, Trace


def as_trace(steps: Sequence[TraceStep], guidance: Guidance | None) -> Trace:
    """Return the record of a batch of one; waits for the device once a field, not once a step."""

    def stacked(name: str) -> np.ndarray:
        return torch.cat([getattr(step, name) for step in steps]).cpu().numpy()

    tokens = stacked("tokens")
    committed = np.zeros(tokens.shape[1], dtype=bool)
    if guidance is not None:
        committed = guidance.committed.reshape(-1).copy()
    return Trace(
        kinds=tuple(step.kind for step in steps),
        times=np.array([step.t for step in steps]),
        tokens=tokens,
        targets=stacked("target"),
        jumped=stacked("jumped"),
        confidence=stacked("confidence").astype(np.float32),
        committed=committed,
    )
