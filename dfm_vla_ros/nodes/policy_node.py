"""``policy_node``: a language goal and the newest observation in, chunks of action tokens out."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rclpy.clock import Clock, ClockType

from dfm_vla_ros.msg import PolicyStatus
from dfm_vla_ros.nodes.chunk_maker import ChunkMaker, Inference
from dfm_vla_ros.nodes.clock import TimeBase
from dfm_vla_ros.nodes.goal_run import GoalRun
from dfm_vla_ros.nodes.goals import InstructionTopic, Result
from dfm_vla_ros.nodes.health import Diagnostics, ExecutorWatch
from dfm_vla_ros.nodes.inputs import Watch
from dfm_vla_ros.nodes.lifecycle import ManagedNode, run
from dfm_vla_ros.nodes.policy_parameters import (
    MODES,
    PARAMETERS,
    check_device,
    choice,
    loading_options,
    watch_settings,
)
from dfm_vla_ros.nodes.policy_status import PolicyReports, StatusTopic
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.resources import resource_path

__all__ = ["PARAMETERS", "PolicyNode", "check_device", "main"]

TICK_S = 0.02
"""How late a source that fell silent is noticed, at most [s]."""
LAST_WORDS_S = 0.15


class PolicyNode(ManagedNode):
    """Serves the action; the inference thread makes and publishes the chunks.

    configure loads the checkpoint, activate begins to accept goals, deactivate ends the goal with
    a hold, cleanup frees the checkpoint.
    """

    def __init__(self) -> None:
        """Subscribe and serve; load nothing yet."""
        super().__init__("policy_node", PARAMETERS)
        values = self.values
        check_device(values["device"])
        choice(values, "mode", MODES)
        loading_options(values)
        settings = watch_settings(values)
        time_base = TimeBase()
        self._inference = Inference(self.get_logger().error)
        self._watch = Watch(self, time_base, settings, lambda: self._chunks.start_if_due())
        executor = ExecutorWatch(self, time_base, lambda: self._goals.look())
        wake = self.create_guard_condition(lambda: self._goals.look())
        self._chunks = ChunkMaker(
            self, values, time_base, self._watch, executor, self._inference, wake.trigger
        )
        self._status = StatusTopic(self, self._chunks)
        self._goals = GoalRun(
            self,
            values,
            self._watch,
            executor,
            self._inference,
            self._chunks,
            self._status,
            wake.trigger,
        )
        self._topic = InstructionTopic(self, self._goals.offer)
        reports = PolicyReports(self._watch, self._inference, self._chunks, self._status)
        self._diagnostics = Diagnostics(self, reports.collect, "dual_arm")
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(TICK_S, self._goals.look, clock=steady)
        if values["autostart"]:
            self._status.set(PolicyStatus.LOADING, "loading the checkpoint")
        else:
            self._status.publish()

    def configure(self) -> None:
        """Load the checkpoint and warm it up, in the inference thread.

        Raises:
            DfmVlaError: the checkpoint or a parameter of its use is no good.
        """
        self._status.set(PolicyStatus.LOADING, "loading the checkpoint")
        guided = self.values["mode"] == "rtc"
        start_t0 = self.values["warm_start"] or None
        try:
            self.wait(self._inference.load(self._load, start_t0 if guided else None))
            self._chunks.prepare(self._inference.policy)
        except Exception:
            self._status.set(PolicyStatus.INACTIVE, "the checkpoint cannot be used, see the log")
            raise
        self._status.name(self._inference.policy)
        self._status.set(PolicyStatus.INACTIVE, "activate the node")

    def _load(self) -> Policy:
        folder = self.values["checkpoint"] or resource_path("checkpoints/default")
        return Policy.load(Path(folder), **loading_options(self.values))

    def activate(self) -> None:
        """Accept goals, of what is seen from now on."""
        self._watch.forget_sizes()
        self._goals.wait_clock()

    def deactivate(self) -> None:
        """End the goal: no chunk comes after its hold, though the inference thread may go on."""
        why = "the node is shutting down" if self.interrupted() else "the node was deactivated"
        self._goals.end(Result.CANCELED, why)
        self._status.set(PolicyStatus.INACTIVE, "activate the node")

    def cleanup(self) -> None:
        """Free the checkpoint."""
        self._chunks.forget()
        self._inference.unload()
        self._status.name(None)
        self._status.set(PolicyStatus.INACTIVE, "configure and activate the node")

    def close(self) -> None:
        """End the goal, let results leave, take down what serves goals, then clean up."""
        if self.active:
            self.trigger_deactivate()
        if self.executor is not None:
            self._say_last_words()
        super().close()
        self._inference.stop()

    def _say_last_words(self) -> None:
        """Serve callbacks until the results of all goals have left; take none at the end."""
        began_s = time.monotonic()
        while (passed_s := time.monotonic() - began_s) < 3 * LAST_WORDS_S:
            self._goals.server.closing = passed_s > LAST_WORDS_S
            self.executor.spin_once(timeout_sec=0.01)
            if passed_s > 2 * LAST_WORDS_S and self._goals.server.open == 0:
                break
        self._goals.server.destroy()
        self._topic.destroy()


def main() -> int:
    """Run the node."""
    return run(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
