from __future__ import annotations

from dfm_vla_ros.nodes.clock import Pace


def test_that_a_jittering_timer_runs_one_tick_each_time() -> None:
    pace = Pace(0.01, first_s=0.01)
    times = [0.0101, 0.0199, 0.0342, 0.0400, 0.0523]
    assert [pace.due(now) for now in times] == [1] * 5


def test_that_a_short_delay_is_caught_up() -> None:
    pace = Pace(0.01, first_s=0.01)
    assert pace.due(0.04) == 4
    assert pace.slipped_s == 0


def test_that_a_long_delay_slips_instead_of_being_run_after() -> None:
    pace = Pace(0.01, first_s=0.01)
    assert pace.due(2.01) == 1
    assert abs(pace.slipped_s - 2.0) < 1e-9
    assert pace.due(2.02) == 1
