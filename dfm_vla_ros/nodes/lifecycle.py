"""A managed node whose failures are not swallowed and that can start itself."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from lifecycle_msgs.srv import ChangeState
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.nodes.parameters import Parameter, declare

AUTOSTART = Parameter("autostart", True, "true: the node configures and activates itself")
POLL_S = 0.02


class TransitionFailed(DfmVlaError):
    """A transition that the node asked of itself did not succeed."""


class Interrupted(DfmVlaError):
    """A signal ended a wait."""


class ManagedNode(LifecycleNode):
    """A lifecycle node; a subclass does its work in `configure`, `activate` and so on.

    A hook that raises DfmVlaError fails its transition with the message in the log: the node stays
    where it was. Any other exception is an error: the node is cleaned up and is unconfigured.
    """

    def __init__(self, name: str, parameters: Sequence[Parameter]) -> None:
        """Declare ``parameters`` and ``autostart``; do nothing else yet."""
        super().__init__(name)
        others = [parameter for parameter in parameters if parameter.name != AUTOSTART.name]
        self.values: dict[str, Any] = declare(self, (*others, AUTOSTART))
        self.interrupted: Callable[[], bool] = lambda: False
        self._failure: Exception | None = None
        self._starting = False
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._answer

    @property
    def active(self) -> bool:
        """Whether the node may act."""
        return self.state == "active"

    @property
    def state(self) -> str:
        """The lifecycle state: unconfigured, inactive, active, finalized or one in between."""
        return self._state_machine.current_state[1]

    def start(self) -> None:
        """Configure and activate, if the parameter says so.

        Raises:
            DfmVlaError: what the hook raised.
        """
        if not self.values["autostart"]:
            return
        self._starting = True
        try:
            for trigger in (self.trigger_configure, self.trigger_activate):
                if trigger() != TransitionCallbackReturn.SUCCESS:
                    raise self._failure or TransitionFailed(f"{self.get_name()} cannot start")
        finally:
            self._starting = False

    def close(self) -> None:
        """Deactivate, clean up and finalize, from whatever state: before the node is destroyed."""
        if self.active:
            self.trigger_deactivate()
        if self.state == "inactive":
            self.trigger_cleanup()
        if self.state == "unconfigured":
            self.trigger_shutdown()

    def configure(self) -> None:
        """Get ready: load files, warm up."""

    def activate(self) -> None:
        """Begin to act."""

    def deactivate(self) -> None:
        """Stop acting; whatever moves is at rest or on its way to it when this returns."""

    def cleanup(self) -> None:
        """Undo `configure`, wherever it got to."""

    def wait(self, future: Future) -> Any:
        """Return the future's result; meanwhile a signal still ends the node.

        A node that starts itself serves its callbacks while it waits; one that was asked by the
        service is in a callback already and cannot.

        Raises:
            Interrupted: a signal came; whatever the future raises.
        """
        while not future.done():
            if self.interrupted():
                raise Interrupted("interrupted while starting")
            if self._starting and self.executor is not None:
                self.executor.spin_once(timeout_sec=POLL_S)
            else:
                time.sleep(POLL_S)
        return future.result()

    def _answer(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        """Answer a request for a transition; rclpy lets an impossible one end the process."""
        try:
            return self._change_state(request, response)
        except rclpy_implementation.RCLError as error:
            asked = request.transition.label or request.transition.id
            self.get_logger().error(f"no transition {asked} from {self.state}: {error}")
            response.success = False
            return response

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `configure`."""
        return self._run(self.configure, lambda: super(ManagedNode, self).on_configure(state))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Enable the managed publishers, then `activate`."""
        return self._run(lambda: super(ManagedNode, self).on_activate(state), self.activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """`deactivate`, then disable the managed publishers: the last word still gets out."""
        return self._run(self.deactivate, lambda: super(ManagedNode, self).on_deactivate(state))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `cleanup`."""
        return self._run(self.cleanup, lambda: super(ManagedNode, self).on_cleanup(state))

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate if need be, then `cleanup`."""
        hooks = (self.deactivate, self.cleanup) if state.label == "active" else (self.cleanup,)
        return self._run(*hooks)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Clean up what is there; the node is unconfigured afterwards."""
        return self._run(self.cleanup)

    def _run(self, *hooks: Callable[[], Any]) -> TransitionCallbackReturn:
        """Run hooks in order; rclpy itself would swallow what they raise."""
        try:
            for hook in hooks:
                hook()
        except DfmVlaError as error:
            self._failure = error
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # noqa: BLE001 - a transition must end in a state
            self._failure = error
            self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS
