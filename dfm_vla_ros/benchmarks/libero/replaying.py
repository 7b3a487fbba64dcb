"""Playing recorded actions again, to see whether simulator and success detection are sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dfm_vla_ros.benchmarks.libero.evaluation import program
from dfm_vla_ros.benchmarks.libero.protocol import ACTION_NAMES, Answer, Job, Protocol
from dfm_vla_ros.benchmarks.libero.suites import Installation, find_task, read_suites
from dfm_vla_ros.benchmarks.libero.variation import Variation
from dfm_vla_ros.benchmarks.simulators import SimulatorPool
from dfm_vla_ros.errors import LiberoError


def replay(
    installation: Installation,
    protocol: Protocol,
    place: tuple[str, int, int],
    actions: Path,
    times: int,
    limit_s: float,
    keep: Path | None,
    say: Callable[[str], None] = print,
) -> int:
    """Play ``actions`` from a stored state ``times`` times.

    Args:
        installation: of the simulator.
        protocol: how; its gripper rule is not used, the actions are the simulator's.
        place: suite, index of the task, number of the stored state.
        actions: file of (T, 7), .npy.
        times: at least 1.
        limit_s: longer is an error [s].
        keep: folder for actions, states and frames of each time; None: nothing is kept.
        say: takes a line at a time.

    Returns:
        0 if the task was done and all states were the same each time.
    """
    suite, index, number = place
    check_actions(actions)
    task = find_task(read_suites(installation), suite, index)
    jobs = [
        Job(
            suite,
            index,
            number,
            str(task.scene),
            str(task.states),
            task.instruction,
            protocol.record(),
            Variation().record(),
            actions=str(actions.resolve()),
            keep=str(keep.resolve() / str(time)) if keep else "",
            film=keep is not None,
        )
        for time in range(times)
    ]
    log = (keep or actions.parent) / "logs"
    answers: list[Answer] = []
    with SimulatorPool(program(installation), 1, log) as pool:
        for _, answer in pool.run([jobs], lambda _, job: job, limit_s):
            say(line(answer))
            answers.append(answer)
    same = len({answer.state_hash for answer in answers}) == 1
    say(f"{task.instruction}: the states are {'the same' if same else 'not the same'} each time")
    return int(not (same and all(answer.success for answer in answers)))


def check_actions(path: Path) -> None:
    """Raise LiberoError unless the file holds finite actions (T, 7)."""
    try:
        actions = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise LiberoError(f"{path} cannot be read ({error}); give an array in .npy") from error
    if actions.ndim != 2 or actions.shape[1] != len(ACTION_NAMES) or not len(actions):
        raise LiberoError(
            f"{path} holds {actions.shape}, expected (T, 7): {', '.join(ACTION_NAMES)}"
        )
    if not np.isfinite(actions).all():
        raise LiberoError(f"{path} holds a number that is not finite")


def line(answer: Answer) -> str:
    """Return how a replay went."""
    if answer.error:
        return f"error: {answer.error}"
    return (
        f"{'success' if answer.success else 'failure'} after {answer.steps} steps, "
        f"{answer.steps / max(answer.seconds, 1e-9):.1f} steps/s, reset {answer.reset_s:.1f} s, "
        f"states {answer.state_hash}"
    )
