"""The other end of the graph: resets the twin, sends goals, reads statuses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import rclpy
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from dfm_vla_ros import signals
from dfm_vla_ros.action import ExecuteInstruction
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.msg import ExecutorStatus, PolicyStatus, TaskStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.qos import local
from dfm_vla_ros.srv import ResetTask

Result = ExecuteInstruction.Result
ERROR_NAMES = {
    code: name
    for name in dir(Result)
    if name.isupper() and isinstance(code := getattr(Result, name), int)
}


class GraphSilent(DfmVlaError):
    """The graph did not answer within the time it had."""


@dataclass
class GoalOutcome:
    """How one goal went.

    Attributes:
        error_code: of ExecuteInstruction.Result.
        message: why it ended.
        chunks: published for it.
        duration_s: ROS time from acceptance to the end [s].
        inference_s: time of each policy call that the feedback showed [s].
    """

    error_code: int
    message: str
    chunks: int
    duration_s: float
    inference_s: list[float] = field(default_factory=list)

    @property
    def error(self) -> str:
        """The error code's name."""
        return ERROR_NAMES.get(self.error_code, str(self.error_code))


class GraphClient:
    """A node in the caller's thread; use it as a context manager.

    Every wait calls ``check``, which raises when a process of the graph has died.
    """

    def __init__(self, domain: int, use_sim_time: bool, check: Callable[[], None]) -> None:
        """Join ``domain`` of this machine: a demo never reaches another machine's robot."""
        self._check = check
        os.environ.update(local())
        self._context = rclpy.Context()
        rclpy.init(
            context=self._context,
            domain_id=domain,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self.node = rclpy.create_node(
            "demo_client",
            context=self._context,
            parameter_overrides=[Parameter("use_sim_time", value=use_sim_time)],
            start_parameter_services=False,
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.statuses: dict[str, Any] = {}
        self._keep("policy_node/status", PolicyStatus)
        self._keep("executor_node/status", ExecutorStatus)
        self._keep("task_status", TaskStatus)
        self._reset = self.node.create_client(ResetTask, "reset_task")
        self.goals = ActionClient(self.node, ExecuteInstruction, "execute_instruction")

    def _keep(self, topic: str, kind: type) -> None:
        self.node.create_subscription(
            kind, topic, lambda message: self.statuses.__setitem__(topic, message), qos.STATUS
        )

    def until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Serve callbacks until ``condition`` holds.

        Raises:
            GraphSilent: it does not within ``timeout_s`` of real time.
        """
        end_s = time.monotonic() + timeout_s
        while not condition():
            signals.check()
            self._check()
            if time.monotonic() > end_s:
                raise GraphSilent(f"no {what} within {timeout_s:.0f} s; see the nodes' logs")
            self._executor.spin_once(timeout_sec=0.1)

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until the policy is loaded and the executor knows where the arms are."""
        self.until(self._reset.service_is_ready, timeout_s, "service reset_task")
        self.until(self.goals.server_is_ready, timeout_s, "action execute_instruction")
        waiting = (ExecutorStatus.WAITING, ExecutorStatus.INACTIVE)
        self._wait_state("executor_node/status", waiting, timeout_s, "executor with joint states")
        loading = (PolicyStatus.LOADING, PolicyStatus.INACTIVE)
        self._wait_state("policy_node/status", loading, timeout_s, "policy that is loaded")

    def _wait_state(self, topic: str, unready: tuple, timeout_s: float, what: str) -> None:
        def ready() -> bool:
            status = self.statuses.get(topic)
            return status is not None and status.state not in unready

        self.until(ready, timeout_s, what)

    def wait_listener(self, name: str, topics: Iterable[str], timeout_s: float) -> None:
        """Wait until node ``name`` subscribes to each of ``topics``."""
        for topic in topics:
            self.until(lambda topic=topic: self._hears(name, topic), timeout_s, f"{name}: {topic}")

    def _hears(self, name: str, topic: str) -> bool:
        infos = self.node.get_subscriptions_info_by_topic(self.node.resolve_topic_name(topic))
        return any(info.node_name == name for info in infos)

    def linger(self, seconds: float) -> None:
        """Serve callbacks for so long [s]."""
        end_s = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end_s, seconds + 1.0, "time")

    def reset(self, task: str, seed: int, timeout_s: float = 30.0) -> str:
        """Put the twin at the start of an episode; return the task's sentence.

        Raises:
            GraphSilent: the twin refuses, or does not answer.
        """
        self.until(self._reset.service_is_ready, timeout_s, "service reset_task")
        answer = self._reset.call_async(ResetTask.Request(task=task, seed=seed))
        self.until(answer.done, timeout_s, "answer of reset_task")
        if not answer.result().success:
            raise GraphSilent(f"reset_task: {answer.result().message}")
        return answer.result().instruction

    def execute(
        self,
        instruction: str,
        timeout_s: float,
        patience_s: float,
        on_feedback: Callable[[ExecuteInstruction.Feedback], None] = lambda feedback: None,
    ) -> GoalOutcome:
        """Send a goal and wait for its end.

        Args:
            instruction: the sentence.
            timeout_s: of the goal, ROS time.
            patience_s: real time after which the graph counts as silent.
            on_feedback: called with each feedback.
        """
        times: dict[int, float] = {}

        def take(message: Any) -> None:
            feedback = message.feedback
            times[feedback.chunks] = feedback.inference_time
            on_feedback(feedback)

        goal = ExecuteInstruction.Goal(instruction=instruction, timeout=timeout_s)
        sent = self.goals.send_goal_async(goal, feedback_callback=take)
        self.until(sent.done, 10.0, "answer to the goal")
        ended = sent.result().get_result_async()
        self.until(ended.done, patience_s, "end of the goal")
        result = ended.result().result
        times.pop(0, None)
        return GoalOutcome(
            result.error_code,
            result.error_msg,
            result.chunks,
            result.duration,
            list(times.values()),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)
