"""``python -m failing_policy``: the policy node, whose GPU has no memory for "quickly"."""

from __future__ import annotations

import sys
from typing import Any

import torch

from dfm_vla_ros.nodes import policy_node
from dfm_vla_ros.policy.policy import Policy

WORD = "quickly"
act = Policy.act


def act_or_run_out(self: Policy, observation: Any, *arguments: Any, **named: Any) -> Any:
    """Make a chunk as ever, unless the instruction holds WORD."""
    if WORD in observation.instruction:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    return act(self, observation, *arguments, **named)


if __name__ == "__main__":
    Policy.act = act_or_run_out
    sys.exit(policy_node.main())
