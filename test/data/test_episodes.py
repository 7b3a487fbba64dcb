"""An episode's parts have one length, and poses have names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_up import make_episode

from dfm_vla_ros.data.format import EpisodeError


def test_that_parts_of_different_length_are_refused() -> None:
    with pytest.raises(EpisodeError, match="targets has 4 frames, positions 5"):
        replace(make_episode(), targets=np.zeros((4, 14)))
    with pytest.raises(EpisodeError, match="poses has 4 frames, positions 5"):
        replace(make_episode(), poses=np.zeros((4, 2)))


def test_that_poses_without_names_are_refused() -> None:
    with pytest.raises(EpisodeError, match=r"poses \(5, 2\) do not have a column for each of the"):
        replace(make_episode(), pose_names=("block.x",))
    with pytest.raises(EpisodeError, match="poses None do not have a column for each"):
        replace(make_episode(), poses=None)
