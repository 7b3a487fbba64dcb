from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from report_synthetic import HORIZON, JOINTS, UNITS, broken, motion, run

from dfm_vla_ros.report.content import Picture, PredictedChunk, ReplayRun, ReportError
from dfm_vla_ros.report.figures import figures_of, following, remarks


def remarks_of(seen: ReplayRun) -> list[str]:
    return list(remarks(seen, figures_of(seen)))


@pytest.fixture(scope="module")
def good() -> ReplayRun:
    return run()


def test_that_errors_are_taken_against_the_command_at_the_time_a_step_is_due() -> None:
    times_s = np.linspace(0, 2, 201)
    commanded = np.repeat(times_s[:, None], 2, axis=1)
    targets = np.column_stack([1.0 + 0.1 * np.arange(1, 6), np.zeros(5)])
    chunk = PredictedChunk(1.0, targets)
    seen = ReplayRun(
        "line", ("a", "b"), ("rad", "rad"), times_s, commanded, commanded, (chunk,), 0.1
    )
    errors = figures_of(seen).errors
    assert errors[0, :, 0] == pytest.approx(0.0, abs=1e-9)
    assert errors[0, :, 1] == pytest.approx([1.1, 1.2, 1.3, 1.4, 1.5])


def test_that_steps_beyond_the_recording_count_for_nothing(good: ReplayRun) -> None:
    late = replace(good.chunks[-1], time_s=good.times_s[-1] - 0.05)
    figures = figures_of(replace(good, chunks=(*good.chunks, late)))
    assert np.isnan(figures.errors[-1, 1:]).all()
    assert np.isfinite(figures.by_step).all()


def test_that_error_by_step_is_the_mean_over_chunks_and_joints_of_one_unit(
    good: ReplayRun,
) -> None:
    figures = figures_of(good)
    arms = [joint for joint, unit in enumerate(UNITS) if unit == "rad"]
    assert figures.by_step[0, :, 0] == pytest.approx(
        [np.nanmean(figures.errors[:, step, arms]) for step in range(HORIZON)]
    )
    assert (figures.by_step[:, 0, 0] < figures.by_step[:, -1, 0]).all(), "noise grows"


def test_that_the_worst_moments_are_ordered_and_apart(good: ReplayRun) -> None:
    figures = figures_of(good)
    times = np.array([good.chunks[row].time_s for row in figures.worst])
    assert (np.diff(figures.score[figures.worst]) <= 0).all()
    assert np.diff(np.sort(times)).min() >= 1.0 - 1e-9
    assert figures.worst[0] == np.nanargmax(figures.score)


def test_that_a_run_without_anything_has_figures_without_warnings(good: ReplayRun) -> None:
    empty = replace(
        good, chunks=(), times_s=np.zeros(0), measured=np.zeros((0, 14)),
        commanded=np.zeros((0, 14)), gaps=(), sources=(),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not len(figures_of(empty).worst)
        assert remarks_of(empty) == []


def test_that_what_was_never_measured_is_not_remarked_on(good: ReplayRun) -> None:
    nothing = np.full_like(good.measured, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(remarks_of(replace(good, measured=nothing))) == 2
        assert len(remarks_of(replace(good, measured=nothing, commanded=nothing))) == 2
        half = np.where(good.times_s[:, None] < 3, np.nan, good.commanded)
        assert len(remarks_of(replace(good, commanded=half))) == 2


def test_that_nothing_stands_out_in_a_good_run_but_its_gap_and_its_refusal(
    good: ReplayRun,
) -> None:
    found = remarks_of(good)
    assert len(found) == 2
    assert found[0] == "1 of 15 chunks were refused: JOINT_LIMIT"
    assert "left_wrist_camera/image_raw silent for 0.60 s from 2.00 s on" in found[1]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("swapped wrist cameras", ["left_wrist resembles the reference of right_wrist"]),
        ("BGR for RGB", ["third resembles its reference more with red and blue exchanged"]),
        ("camera moved", ["third lies -10% of its width and +6% of its height"]),
        ("wrong joint order", ["left_joint1 that of right_joint1", "and 9 more): wrong order?"]),
        ("stale calibration", ["nearly all the time: left_joint3 +0.08"]),
        ("gripper scale off", ["measured beyond the limits: left_gripper", "another scale?"]),
    ],
)
def test_that_each_fault_is_told_by_a_remark_of_its_own(
    good: ReplayRun, fault: str, expected: list[str]
) -> None:
    found = " ".join(set(remarks_of(broken(good, fault))) - set(remarks_of(good)))
    assert all(part in found for part in expected), found


def test_that_a_black_camera_is_not_taken_for_a_moved_one(good: ReplayRun) -> None:
    black = {camera: np.zeros_like(view) for camera, view in good.samples.items()}
    found = " ".join(remarks_of(replace(good, samples=black)))
    assert "from its reference" not in found
    assert "nan" not in found


def test_that_parts_that_do_not_fit_are_refused_by_name(good: ReplayRun) -> None:
    with pytest.raises(ReportError, match=r"measured has shape \(3, 14\), expected \(120, 14\)"):
        replace(good, measured=np.zeros((3, 14)))
    with pytest.raises(ReportError, match=r"targets of a chunk are \(8, 3\); give \(H, 14\)"):
        replace(good, chunks=(PredictedChunk(0.0, np.zeros((8, 3))),))
    trace = good.chunks[0].refinement
    assert trace is not None
    with pytest.raises(ReportError, match="confidence"):
        replace(trace, confidence=np.zeros(3))


def test_that_recorded_actions_at_uneven_times_are_interpolated(good: ReplayRun) -> None:
    keep = np.ones(len(good.times_s), dtype=bool)
    keep[5:90:7] = False
    commanded = motion(good.times_s[keep])
    times_s, measured = good.times_s[keep], good.measured[keep]
    thin = replace(good, times_s=times_s, measured=measured, commanded=commanded)
    assert figures_of(thin).by_step[0] == pytest.approx(
        figures_of(good).by_step[0], rel=0.05, abs=1e-3
    )


def moving_with(run_: ReplayRun, arms: dict[str, str]) -> ReplayRun:
    """Return the run with wrist pictures that move as the first joint of an arm does."""
    texture = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    texture = np.kron(texture[::6, ::6], np.ones((12, 12, 1), dtype=np.uint8))
    chunks = []
    for chunk in run_.chunks:
        joints = dict(zip(JOINTS, motion(np.array(chunk.time_s)), strict=True))
        pictures = {
            camera: Picture.of(np.roll(texture, round(200 * joints[f"{arm}_joint1"]), axis=0))
            for camera, arm in arms.items()
        }
        chunks.append(replace(chunk, pictures=pictures))
    return replace(run_, chunks=tuple(chunks))


def test_that_a_wrist_camera_that_moves_with_the_other_arm_stands_out() -> None:
    good = run(duration_s=12.0)
    still = np.array([name.startswith("right") for name in JOINTS])
    commanded = np.where(still, good.commanded[0], good.commanded)
    good = replace(good, commanded=commanded, measured=commanded)
    own = moving_with(good, {"left_wrist": "left", "third": "left"})
    assert following(own).cameras == ("left_wrist",)
    right = moving_with(good, {"left_wrist": "left", "right_wrist": "left"})
    stuck = replace(right.chunks[0], pictures=right.chunks[0].pictures).pictures
    chunks = [
        replace(
            c,
            pictures={"left_wrist": c.pictures["left_wrist"], "right_wrist": stuck["right_wrist"]},
        )
        for c in right.chunks
    ]
    fine = replace(right, chunks=tuple(chunks))
    assert np.isnan(following(fine).change[:, 1]).all(), "the right arm rests"
    assert not any("moves with" in remark for remark in remarks_of(fine))
    chunks = [
        replace(
            c,
            pictures={
                "left_wrist": c.pictures["right_wrist"],
                "right_wrist": c.pictures["left_wrist"],
            },
        )
        for c in chunks
    ]
    exchanged = remarks_of(replace(right, chunks=tuple(chunks)))
    assert any(r.startswith("right_wrist moves with the left arm") for r in exchanged)
