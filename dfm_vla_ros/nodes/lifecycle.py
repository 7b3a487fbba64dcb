"""A managed node whose failures are not swallowed and that can start itself."""

from __future__ import annotations

import difflib
import gc
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import rclpy
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterValueException, ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from dfm_vla_ros.errors import DfmVlaError


class ParameterError(DfmVlaError):
    """A parameter is unknown, of the wrong type or out of its range."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node, fixed once the node runs unless it is ``dynamic``.

    Attributes:
        name: as in the YAML file.
        default: also gives the type.
        description: with the unit.
        bounds: smallest and largest value of a number.
        dynamic: may be set while the node runs.
        choices: all values that a text may have; empty: any.
    """

    name: str
    default: Any
    description: str
    bounds: tuple[float, float] | None = None
    dynamic: bool = False
    choices: tuple[str, ...] = ()

    def descriptor(self) -> ParameterDescriptor:
        """Return what ``ros2 param describe`` shows."""
        made = ParameterDescriptor(description=self.description, read_only=not self.dynamic)
        if self.bounds is None:
            return made
        low, high = self.bounds
        if isinstance(self.default, float):
            made.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        else:
            made.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
        return made


def declare(node: Node, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Declare ``parameters`` on ``node`` and return their values by name.

    Raises:
        ParameterError: a value is unusable, or a key was given that the node does not know.
    """
    values = {parameter.name: _declare(node, parameter) for parameter in parameters}
    _refuse_unknown(node)
    return values


def _declare(node: Node, parameter: Parameter) -> Any:
    name, default = parameter.name, parameter.default
    try:
        value = node.declare_parameter(name, default, parameter.descriptor()).value
    except InvalidParameterValueException as error:
        problem = f"{error}; allowed is {parameter.bounds}"
    except ParameterException as error:
        problem = f"{error}; its type is {type(default).__name__}"
    else:
        if isinstance(value, float) and not math.isfinite(value):  # no range excludes NaN
            problem = f"{value} is not finite; allowed is {parameter.bounds}"
        elif parameter.choices and value not in parameter.choices:
            problem = f"{value!r} is unknown; give {' or '.join(parameter.choices)}"
        else:
            return value
    raise ParameterError(f"parameter {name}: {problem} ({parameter.description})")


def _refuse_unknown(node: Node) -> None:
    """Refuse overrides of parameters that were never declared: a typo."""
    # rclpy keeps what the command line and YAML files gave here and offers no public view of it.
    given = node._parameter_overrides
    for name in given:
        if node.has_parameter(name) or name.startswith("qos_overrides."):
            continue
        known = sorted(node._parameters)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; it has {', '.join(known)}"
        raise ParameterError(f"{node.get_name()} has no parameter {name!r}{hint}")


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

    # rclpy calls these; around an activation its own enable and disable managed publishers.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `configure`."""
        return self._run(self.configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Enable the managed publishers, then `activate`."""
        return self._run(partial(super().on_activate, state), self.activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """`deactivate`, then disable the managed publishers: the last word still gets out."""
        return self._run(self.deactivate, partial(super().on_deactivate, state))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `cleanup`."""
        return self._run(self.cleanup)

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


SWITCH_S = 5e-4
"""How long a thread keeps the interpreter while another wants it [s].

Python's default, 5 ms, is what a chunk just made or an image just come would wait for."""


def run(make_node: Callable[[], Node], arguments: Sequence[str] | None = None) -> int:
    """Spin one node until SIGINT or SIGTERM; return the exit status.

    A managed node is started if its parameters say so. A node may have ``close()``, called before
    it is destroyed. A DfmVlaError that a callback raises ends the process with its message. The
    node must have a timer: a signal is noticed when the next callback is due.

    rclpy's own signal handlers invalidate the context at once, under the feet of a callback that
    is just publishing. Those here let the callback end, and the node say its last words.

    Nodes see this machine alone unless ROS_AUTOMATIC_DISCOVERY_RANGE says otherwise.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    came: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: came.append(number))
    sys.setswitchinterval(SWITCH_S)
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    try:
        _spin(make_node, lambda: bool(came))
    except DfmVlaError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    finally:
        rclpy.try_shutdown()
        gc.freeze()  # else the ending interpreter looks through all of torch: seconds
    return 0


def _spin(make_node: Callable[[], Node], interrupted: Callable[[], bool]) -> None:
    """Make the node, spin it, take it down in order."""
    node = make_node()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if isinstance(node, ManagedNode):
            node.interrupted = interrupted
            node.start()
        while not interrupted():
            executor.spin_once()
    except Interrupted:
        pass  # by the signal that ends the node anyway
    finally:
        if hasattr(node, "close"):
            node.close()
        executor.shutdown()
        node.destroy_node()
