import pytest

from dfm_vla_ros.benchmarks.calvin.evaluation import metrics, table
from dfm_vla_ros.benchmarks.calvin.sequences import Chain, initial_states
from dfm_vla_ros.benchmarks.results import EpisodeResult

TASKS = ("open_drawer", "turn_on_led", "close_drawer", "turn_off_led", "move_slider_left")
CHAINS = [Chain(initial_states()[0], TASKS)] * 6


def _ended(*lengths: int) -> list[EpisodeResult]:
    return [
        EpisodeResult("CALVIN", "chain", number, length == 5, 1, 1.0, "", {"in_a_row": length})
        for number, length in enumerate(lengths)
    ]


def test_that_the_figures_are_those_of_the_definition() -> None:
    found = metrics(_ended(5, 3, 0, 1), CHAINS)
    assert [share["rate"] for share in found["in_a_row"]] == [0.75, 0.5, 0.5, 0.25, 0.25]
    assert found["average_length"]["mean"] == pytest.approx(9 / 4)
    assert sum(share["rate"] for share in found["in_a_row"]) == pytest.approx(9 / 4)
    assert found["tasks"]["open_drawer"]["done"] == 3
    assert found["tasks"]["open_drawer"]["tried"] == 4
    assert found["tasks"]["turn_on_led"]["tried"] == 3
    assert found["tasks"]["move_slider_left"] == {
        "done": 1,
        "tried": 1,
        "rate": 1.0,
        "interval": pytest.approx((0.2065, 1.0), abs=1e-3),
    }


def test_that_an_interval_holds_the_mean_and_stays_within_what_is_possible() -> None:
    for lengths in ((5, 5, 5, 4), (0, 0, 0, 1), (2,), (5, 0, 3)):
        mean = metrics(_ended(*lengths), CHAINS)["average_length"]
        low, high = mean["interval"]
        assert 0 <= low <= mean["mean"] <= high <= 5


def test_that_what_broke_is_counted_nowhere() -> None:
    broken = EpisodeResult("CALVIN", "chain", 5, False, 0, 1.0, "the simulator died")
    assert metrics([*_ended(5, 3), broken], CHAINS) == metrics(_ended(5, 3), CHAINS)
    assert table(metrics([broken], CHAINS)) == "no chain ran to its end"


def test_that_the_table_reads_as_in_papers() -> None:
    line = table(metrics(_ended(5, 3, 0, 1), CHAINS)).splitlines()[-1]
    assert line.startswith("| 4 | 75.0 | 50.0 | 50.0 | 25.0 | 25.0 | 2.25 (")
