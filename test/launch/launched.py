"""A ``ros2 launch`` under test and a node that asks its nodes how they are."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import rclpy
from dfm_vla_ros.action import ExecuteInstruction
from dfm_vla_ros.msg import ExecutorStatus
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.qos import local

PATIENCE_S = 60.0
ENDED = re.compile(
    r"\[(?P<name>\w+)-\d+\]: process has (?P<how>finished cleanly|died.*exit code -?\d+)"
)


class Launched:
    """One launch, its output and how its processes ended."""

    def __init__(
        self,
        command: Sequence[str],
        file: str,
        arguments: Mapping[str, str],
        domain: int,
        logs: Path,
        environment: Mapping[str, str],
    ) -> None:
        """Start it in a session of its own, as a terminal would."""
        self.domain = domain
        self._log = logs / "output.txt"
        given = [f"{name}:={value}" for name, value in arguments.items()]
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "dfm_vla_ros", file, *given],
                env={
                    **environment,
                    **local(),
                    "ROS_DOMAIN_ID": str(domain),
                    "ROS_LOG_DIR": str(logs),
                    "PYTHONUNBUFFERED": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What launch and its processes printed so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def endings(self) -> dict[str, str]:
        """How each process ended, by executable, in launch's words."""
        return {match["name"]: match["how"] for match in ENDED.finditer(self.output)}

    def end(self) -> int:
        """Ctrl-C, once; return the exit status of ``ros2 launch``."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        """Wait until it has ended; kill it after a minute."""
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"launch did not end:\n{self.output}") from None


class Probe:
    """A client in one namespace of a launch's domain."""

    def __init__(self, launched: Launched, namespace: str = "") -> None:
        """Join the graph; use it as a context manager."""
        self._launched = launched
        self._context = rclpy.Context()
        rclpy.init(
            context=self._context,
            domain_id=launched.domain,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self.node = rclpy.create_node(
            "probe", namespace=namespace, context=self._context, start_parameter_services=False
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.executor_status = ExecutorStatus()
        self.node.create_subscription(
            ExecutorStatus,
            "executor_node/status",
            lambda message: setattr(self, "executor_status", message),
            qos.STATUS,
        )
        self.goals = ActionClient(self.node, ExecuteInstruction, "execute_instruction")

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Serve callbacks until ``condition`` holds, or fail with launch's output."""
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            ended = self._launched.process.poll()
            if ended is not None or time.monotonic() > end_s:
                raise AssertionError(f"no {what} (launch: {ended}):\n{self._launched.output}")
            self._executor.spin_once(timeout_sec=0.1)

    def listen_to_the_end(self) -> None:
        """Serve callbacks until the launch has ended."""
        end_s = time.monotonic() + PATIENCE_S
        while self._launched.process.poll() is None:
            if time.monotonic() > end_s:
                raise AssertionError(f"launch did not end:\n{self._launched.output}")
            self._executor.spin_once(timeout_sec=0.1)

    def call(self, kind: type, name: str, request: Any) -> Any:
        """Call a service and return its answer."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f"service {name}")
        future = client.call_async(request)
        self.until(future.done, f"answer of {name}")
        self.node.destroy_client(client)
        return future.result()

    def state(self, node: str) -> str:
        """Return a lifecycle node's state."""
        return self.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label

    def wait_active(self, *nodes: str) -> None:
        """Wait until each node has started itself."""
        for node in nodes:
            self.until(lambda node=node: self.state(node) == "active", f"active {node}")

    def change(self, node: str, transition: int) -> bool:
        """Ask a lifecycle node for a transition."""
        request = ChangeState.Request()
        request.transition.id = transition
        return self.call(ChangeState, f"{node}/change_state", request).success

    def start_goal(self, instruction: str) -> Any:
        """Send a goal and return its handle."""
        self.until(self.goals.server_is_ready, "action execute_instruction")
        goal = ExecuteInstruction.Goal(instruction=instruction, timeout=60.0)
        sent = self.goals.send_goal_async(goal)
        self.until(sent.done, "answer to the goal")
        return sent.result()

    def cancel(self, handle: Any) -> Any:
        """Cancel a goal and return its result."""
        result = handle.get_result_async()
        handle.cancel_goal_async()
        self.until(result.done, "end of the goal")
        return result.result().result

    def __enter__(self) -> Probe:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)
