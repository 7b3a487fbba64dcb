"""Demonstrators: one way, several ways by the seed, and a slower one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from dfm_vla_ros.errors import UnknownSetting
from dfm_vla_ros.sim.demonstrate import demonstrate
from dfm_vla_ros.sim.experts import expert_targets, styled_targets
from dfm_vla_ros.sim.perturbations import Setting
from dfm_vla_ros.sim.tasks import TASKS
from dfm_vla_ros.sim.twin import Twin
from dfm_vla_ros.sim.variation import PLAIN, Style, demonstrator


@pytest.fixture
def twin(twin: Twin) -> Iterator[Twin]:
    twin.setting = Setting(variation="layout")
    yield twin
    twin.setting = Setting()
    twin.reset("place_block", 0)


def several(twin: Twin, task: str, seed: int) -> tuple[np.ndarray, Style]:
    twin.reset(task, seed)
    return styled_targets(task, twin, demonstrator("several"))


@pytest.mark.parametrize("task", TASKS)
def test_that_one_demonstrator_has_one_way(twin: Twin, task: str) -> None:
    for seed in range(3):
        twin.reset(task, seed)
        targets, style = styled_targets(task, twin)
        assert style == PLAIN and str(style) == ""
        np.testing.assert_array_equal(targets, expert_targets(task, twin))


@pytest.mark.parametrize("task", TASKS)
def test_that_several_ways_are_drawn_by_the_seed(twin: Twin, task: str) -> None:
    styles = [several(twin, task, seed)[1] for seed in range(30)]
    assert styles[:5] == [several(twin, task, seed)[1] for seed in range(5)]
    assert {style.pace for style in styles} == {1.0, 1.5}
    kinds = {
        "pot_lift": {style.order for style in styles},
        "place_veg": {style.along for style in styles},
        "place_block": {style.turn for style in styles},
    }
    assert len(kinds[task]) == 3
    if task != "pot_lift":
        assert Counter(style.arm for style in styles)["far"] >= 1


def test_that_one_layout_is_done_in_different_ways_by_different_draws(twin: Twin) -> None:
    twin.reset("place_block", 11)
    moved = set()
    for seed in range(20):
        twin.seed = seed
        targets, _ = styled_targets("place_block", twin, demonstrator("several"))
        moved.add(bool(np.ptp(targets[:, :7], axis=0).any()))
    found = twin.scene.object_position("block")
    assert moved == ({True, False} if abs(found[1]) < 0.11 else {found[1] > 0})


@pytest.mark.parametrize("task", ["place_veg", "place_block"])
def test_that_in_the_middle_either_arm_acts_about_as_often(twin: Twin, task: str) -> None:
    twin.setting = Setting(variation="middle")
    arms = Counter(several(twin, task, seed)[1].arm for seed in range(40))
    assert 12 <= arms["far"] <= 28


def test_that_the_hand_that_takes_the_pot_first_starts_first_and_both_lift_together(
    twin: Twin,
) -> None:
    twin.reset("pot_lift", 3)
    targets = expert_targets("pot_lift", twin, Style(order="right"))
    left, right = (
        np.abs(np.diff(arm, axis=0)).max(axis=1) for arm in np.split(targets, 2, axis=1)
    )
    assert left[:13].max() < 1e-6
    assert right[:13].max() > 1e-3
    assert min(left[-20:-12].min(), right[-20:-12].min()) > 1e-4


def test_that_the_slow_demonstrator_takes_longer_over_the_same_places(twin: Twin) -> None:
    twin.reset("place_block", 5)
    plain, _ = styled_targets("place_block", twin)
    slow, _ = styled_targets("place_block", twin, demonstrator("slow"))
    assert len(slow) == pytest.approx(1.6 * len(plain), abs=5)
    np.testing.assert_allclose(slow[-1], plain[-1], atol=1e-2)


def test_that_a_demonstration_records_its_style(twin: Twin) -> None:
    episode = demonstrate(twin, "pot_lift", 2, 0.0, False, demonstrator("several"))
    assert episode.style == str(several(twin, "pot_lift", 2)[1])


def test_that_a_style_says_what_it_changes() -> None:
    assert str(Style(arm="far", turn=-1, pace=1.5)) == "arm=far turn=-1 pace=1.5"


def test_that_an_unknown_demonstrator_is_answered_with_those_there_are() -> None:
    with pytest.raises(UnknownSetting, match="'two'; there are one, several, slow"):
        demonstrator("two")
