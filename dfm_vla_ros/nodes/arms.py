"""The executor together with its output: what moves the arms, and what brings them to rest."""

from __future__ import annotations

from dfm_vla_ros.nodes.clock import Timeline
from dfm_vla_ros.nodes.outputs import Nothing, Output
from dfm_vla_ros.robot.executor import Executor
from dfm_vla_ros.robot.plan import Plan
from dfm_vla_ros.robot.progress import Account, Progress

LAST_S = 0.05
"""How long the hold is told before it is forgotten, and a stream repeats it."""


class Arms:
    """Commands plans, brakes, and forgets where the arms are once they rest.

    Attributes:
        executor: None while the node is unconfigured.
        output: where its plans go; ``Nothing`` while the node is inactive.
    """

    def __init__(self, timeline: Timeline) -> None:
        """Begin without executor and output."""
        self._timeline = timeline
        self.executor: Executor | None = None
        self.output: Output = Nothing()
        self._forget_s: float | None = None
        self._moved = False

    def begin(self, output: Output, now_s: float) -> None:
        """Command through ``output``, from the next joint states on."""
        self.output = output
        self.reset(now_s)

    def finish(self) -> None:
        """Brake; the hold is the last message."""
        commanded = None if self.executor is None else self.executor.sample(self._timeline.now_s())
        self.output.finish(self._held(), None if commanded is None else commanded[0])
        self.output = Nothing()

    def brake(self) -> float:
        """Brake and hold; return when the arms rest."""
        made = self._held()
        if made is None:
            return self._timeline.now_s()
        self.output.follow(made)
        return made.end_s

    def stop(self, reason: str) -> None:
        """Brake and take no chunk until the executor is told to resume."""
        if self.executor is None:
            return
        made = self.executor.stop(reason, self._timeline.now_s())
        if made is not None:
            self.output.follow(made)

    def reset(self, since_s: float) -> None:
        """Forget at once: the next joint states from ``since_s`` on say where the arms are."""
        self._forget_s = None
        if self.executor is not None:
            self.executor.reset(since_s)

    def moved(self, since_s: float) -> None:
        """Somebody else put the arms elsewhere at ``since_s``: start anew from there.

        A trajectory that was under way meanwhile ends as soon as it is known where they are.
        """
        self.output.leave(self._timeline.now_s())
        self.reset(since_s)
        self._moved = True

    def forget_at(self, rest_s: float) -> None:
        """Forget where the arms are once they have rested for a moment."""
        self._forget_s = max(rest_s + LAST_S, self._forget_s or rest_s)

    def leave_at(self, rest_s: float) -> None:
        """The same, and let the output repeat the hold for a moment and fall silent."""
        self.output.leave(rest_s + LAST_S)
        self.forget_at(rest_s)

    def tick(self, now_s: float) -> None:
        """Forget if it is time; after `moved` tell controllers to stay where the arms are."""
        if self._moved and self.known:
            self._moved = False
            self.output.stay(self.executor.sample(now_s)[0])
        if self._forget_s is not None and now_s >= self._forget_s:
            self.reset(now_s)

    @property
    def known(self) -> bool:
        """Whether joint states have said where the arms are, and that is not to be forgotten."""
        if self.executor is None or self._forget_s is not None:
            return False
        return self.executor.sample(self._timeline.now_s()) is not None

    @property
    def moving(self) -> bool:
        """Whether a plan is running."""
        return self.executor is not None and self.executor.executing(self._timeline.now_s())

    @property
    def account(self) -> Account:
        """What became of the chunks that the executor got."""
        if self.executor is None:
            return Account()
        return self.executor.account(self._timeline.now_s())

    @property
    def progress(self) -> Progress | None:
        """The phase of the newest chunk."""
        return None if self.executor is None else self.executor.progress

    def _held(self) -> Plan | None:
        """Return the plan that brakes, None if nothing moves."""
        return None if self.executor is None else self.executor.hold(self._timeline.now_s())
