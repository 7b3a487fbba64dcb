"""Proprioception as tokens: uniform bins between two bounds a joint."""

from __future__ import annotations

from pathlib import Path

from dfm_vla_ros.tokens.bins import Bins

FILE = Path("tokenizer") / "proprioception.json"


class ProprioceptionTokenizer(Bins):
    """Bins of D joint positions [rad], grippers [m]."""

    file = FILE
    kind = "uniform_absolute"
    names_key = "joint_names"
    infinite = "position of {name} is not finite: check the joint states"

    @property
    def joint_names(self) -> tuple[str, ...]:
        """The D joints."""
        return self.names
