"""Whatever is sent, whatever comes out keeps every limit and joins without a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from chunk_kinds import CORRUPT, KINDS
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from robots import HOME, LIMITS
from watched import Watched

from dfm_vla_ros.robot.executor import JoinMode
from dfm_vla_ros.robot.plan import PlanSettings

WEAK = replace(
    LIMITS,
    velocity=LIMITS.velocity / 3,
    acceleration=np.where(LIMITS.prismatic, 20.0, 6.0),
    jerk=np.where(LIMITS.prismatic, 300.0, 60.0),
)
OUTSIDE = np.where(np.arange(14) % 7 == 2, 0.02, HOME)

CHANGES = st.fixed_dictionaries(
    {"mode": st.sampled_from(JoinMode)},
    optional={
        "committed_steps": st.integers(0, 8),
        "execute_steps": st.integers(0, 8),
        "expected_interval_s": st.sampled_from([0.1, 0.4, 0.9, 5.0, 1e5]),
        "goal_id": st.sampled_from(["a", "b"]),
        "chunk_id": st.integers(0, 2**32 - 1),
    },
)
AGES = st.floats(0.0, 0.4) | st.sampled_from([0.0, 0.05, 1.0, 3.0])
CHUNK = st.tuples(
    st.just("chunk"), st.sampled_from(KINDS), st.integers(0, 2**32 - 1), AGES, CHANGES
)
WAIT = st.tuples(st.just("wait"), st.floats(0.0, 0.5) | st.sampled_from([1e-6, 0.02, 0.1, 1.0]))
CORRUPTED = st.tuples(st.just("corrupt"), st.sampled_from(sorted(CORRUPT)))
BRAKED = st.sampled_from([("hold",), ("hold",), ("stop",)])
RESET = st.tuples(st.just("reset"), st.integers(0, 100))
SPEED = st.tuples(st.just("speed"), st.floats(0.05, 1.0) | st.just(1.0))
STATES = ("permuted", "nan", "huge", "short", "twice", "nan stamp")
MEASURED = st.tuples(st.just("measure"), st.sampled_from(STATES))
SILENCE = st.just(("wait", 0.7, False))
WEIGHTS = (
    *16 * [CHUNK],
    *8 * [WAIT],
    *3 * [CORRUPTED],
    *2 * [BRAKED],
    *2 * [st.just(("resume",))],
    *(RESET, SPEED, MEASURED, SILENCE),
)


@st.composite
def sequences(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Mostly chunks and time passing."""
    picks = draw(st.lists(st.integers(0, len(WEIGHTS) - 1), min_size=4, max_size=24))
    return [draw(WEIGHTS[pick]) for pick in picks]


SETTINGS = st.sampled_from(
    [
        PlanSettings(),
        PlanSettings(),
        PlanSettings(lead_s=0.005, minimum_gap_s=0.01, margin_rad=0.0),
        PlanSettings(lead_s=0.1, minimum_gap_s=0.3, margin_rad=0.05, jump_rad=3.0),
        PlanSettings(lead_s=0.001, jump_rad=3.0, largest_time_scale=100.0),
    ]
)


def survives(counted: Callable[[Watched], None]) -> Callable[..., None]:
    """Return the property; ``counted`` sees each executor at the end."""

    @given(
        st.sampled_from([LIMITS, LIMITS, WEAK]),
        SETTINGS,
        st.sampled_from([HOME, OUTSIDE]),
        st.sampled_from([10.0, 0.0, 1e5]),
        sequences(),
    )
    def holds(
        limits: Any, chosen: PlanSettings, begin: np.ndarray, now_s: float, operations: list
    ) -> None:
        watched = Watched(limits, chosen, begin, now_s)
        for operation in operations:
            watched.run(operation)
        watched.wait(0.3)
        counted(watched)

    return holds


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]
ONCE = (Phase.explicit, Phase.generate)  # shrinking takes minutes; the operations say enough


def test_that_whatever_is_sent_every_plan_keeps_every_limit() -> None:
    check = survives(lambda watched: None)
    settings(
        max_examples=200, deadline=None, suppress_health_check=QUIET, derandomize=True, phases=ONCE
    )(check)()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_that_ten_thousand_chunks_do_no_harm() -> None:
    sent = [0, 0, 0]

    def count(watched: Watched) -> None:
        sent[:] = np.add(sent, [watched.received, watched.refused, watched.plans])

    while sent[0] < 10_000:
        check = survives(count)
        settings(
            max_examples=500,
            deadline=None,
            suppress_health_check=QUIET,
            database=None,
            phases=ONCE,
        )(check)()
    print(f"{sent[0]} chunks, {sent[1]} refused, {sent[2]} plans checked")
    assert sent[0] >= 10_000
