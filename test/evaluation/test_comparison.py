"""Paired comparison of evaluations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from dfm_vla_ros.cli import main
from dfm_vla_ros.evaluation.statistics import ComparisonError, Paired, holm, paired

COUNTS = st.integers(0, 60)


def result(successes: set[int], seeds: range, variation: str = "off", task: str = "t") -> dict:
    episodes = [{"seed": seed, "success": seed in successes} for seed in seeds]
    return {
        "tasks": [{"task": task, "results": episodes}],
        "setting": {"variation": variation},
    }


@given(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS).filter(any))
def test_that_the_p_value_is_the_binomial_tests(counts: tuple[int, int, int, int]) -> None:
    pair = Paired("t", *counts)
    n = pair.only_a + pair.only_b
    expected = binomtest(pair.only_a, n).pvalue if n else 1.0
    assert pair.p_value == pytest.approx(expected)


@given(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS).filter(any))
def test_that_the_interval_holds_the_difference_and_turns_with_the_pair(
    counts: tuple[int, int, int, int],
) -> None:
    both, a, b, neither = counts
    pair, turned = Paired("t", both, a, b, neither), Paired("t", both, b, a, neither)
    low, high = pair.interval
    difference = pair.rates[1] - pair.rates[0]
    assert -1 - 1e-9 <= low <= difference + 1e-12
    assert difference - 1e-12 <= high <= 1 + 1e-9
    assert turned.interval == pytest.approx((-high, -low))


def test_that_the_interval_is_newcombes_example() -> None:
    low, high = Paired("t", both=36, only_a=2, only_b=12, neither=0).interval
    assert (round(low, 4), round(high, 4)) == (0.0569, 0.3404)


def test_that_holm_corrects_in_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_that_only_seeds_of_both_count() -> None:
    found = paired(result({1, 2, 3, 4}, range(10)), result({2, 3, 11}, range(2, 12)))
    assert found == [Paired("t", both=2, only_a=1, only_b=0, neither=5)]


def test_that_results_without_common_layouts_are_refused() -> None:
    with pytest.raises(ComparisonError, match="no task and seed is in both"):
        paired(result({1}, range(5)), result({1}, range(5, 9)))
    with pytest.raises(ComparisonError, match="variation is off in one and wide in the other"):
        paired(result({1}, range(5)), result({1}, range(5), "wide"))


def test_that_the_command_compares_the_first_with_each_and_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, done in (("clean", set(range(20))), ("noise", set(range(10))), ("dark", set())):
        (tmp_path / f"{name}.json").write_text(json.dumps(result(done, range(20))))
    files = [str(tmp_path / f"{name}.json") for name in ("clean", "noise", "dark")]
    assert main(["compare", *files, "--json", str(tmp_path / "out.json")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("t: clean 100%, noise 50% of 20; only clean 10, only noise 0;")
    assert "p = 0.002 (Holm 0.002)" in first
    assert "p = 1.9e-06 (Holm 3.8e-06)" in second
    assert json.loads((tmp_path / "out.json").read_text())[1]["only_a"] == 20


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ("[]", "not results"), ('{"tasks": [{}]}', "not results")],
)
def test_that_what_is_no_result_is_refused(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text(content)
    assert main(["compare", *[str(tmp_path / "a.json")] * 2]) == 1
    assert message in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "a.json")]) == 1
