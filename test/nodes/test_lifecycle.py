"""A managed node says why a transition failed, starts itself if asked, and ends in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter as Override

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.nodes.lifecycle import Interrupted, ManagedNode, Parameter

LIMIT = Parameter("limit", 1.0, "[m]", (0.0, 2.0))


class Recorder(ManagedNode):
    """Writes down what is asked of it; fails where told to."""

    fails: dict[str, Exception]

    def _note(self, hook: str) -> None:
        self.hooks.append(hook)
        if hook in self.fails:
            raise self.fails[hook]

    def configure(self) -> None:
        self._note("configure")

    def activate(self) -> None:
        self._note("activate")

    def deactivate(self) -> None:
        self._note("deactivate")

    def cleanup(self) -> None:
        self._note("cleanup")


@pytest.fixture
def make(ros_domain: int) -> Iterator[Callable[..., Recorder]]:
    rclpy.init(domain_id=ros_domain)
    made: list[Recorder] = []

    def build(fails: dict[str, Exception] | None = None, **overrides: Any) -> Recorder:
        class Given(Recorder):
            def __init__(self) -> None:
                self.hooks, self.fails = [], fails or {}
                super().__init__("managed", (LIMIT,))
                given = [Override(key, value=value) for key, value in overrides.items()]
                self.values.update({item.name: item.value for item in given})

        made.append(Given())
        return made[-1]

    yield build
    for node in made:
        node.destroy_node()
    rclpy.shutdown()


def test_that_a_node_starts_itself_and_ends_in_order(make: Callable[..., Recorder]) -> None:
    node = make()
    node.start()
    assert node.active
    node.close()
    assert node.hooks == ["configure", "activate", "deactivate", "cleanup", "cleanup"]
    assert node.state == "finalized"


def test_that_without_autostart_it_waits(make: Callable[..., Recorder]) -> None:
    node = make(autostart=False)
    node.start()
    assert (node.state, node.hooks) == ("unconfigured", [])


def test_that_a_failed_start_raises_what_the_hook_raised(make: Callable[..., Recorder]) -> None:
    node = make({"configure": DfmVlaError("no such folder")})
    with pytest.raises(DfmVlaError, match="no such folder"):
        node.start()
    assert node.state == "unconfigured"


def test_that_a_failed_transition_leaves_the_node_where_it_was(
    make: Callable[..., Recorder],
) -> None:
    node = make({"activate": DfmVlaError("not now")}, autostart=False)
    node.trigger_configure()
    node.trigger_activate()
    assert node.state == "inactive"
    node.fails.clear()
    node.trigger_activate()
    assert node.active


def test_that_an_unexpected_error_cleans_up(make: Callable[..., Recorder]) -> None:
    node = make({"configure": ZeroDivisionError()}, autostart=False)
    node.trigger_configure()
    assert node.hooks == ["configure", "cleanup"]
    assert node.state == "unconfigured"


def test_that_a_signal_ends_a_wait(make: Callable[..., Recorder]) -> None:
    node = make(autostart=False)
    node.interrupted = lambda: True
    with pytest.raises(Interrupted):
        node.wait(Future())


def test_that_a_node_that_starts_itself_serves_its_callbacks_while_it_waits(
    make: Callable[..., Recorder],
) -> None:
    node, loaded = make(), Future()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    node.create_timer(0.01, lambda: loaded.done() or loaded.set_result("loaded"))
    node.configure = lambda: node.hooks.append(node.wait(loaded))
    node.start()
    assert node.hooks == ["loaded", "activate"]
    executor.shutdown()


def test_that_an_impossible_transition_is_answered(make: Callable[..., Recorder]) -> None:
    node = make(autostart=False)
    request = ChangeState.Request()
    request.transition.id = Transition.TRANSITION_ACTIVATE
    answer = node._service_change_state.callback(request, ChangeState.Response(success=True))
    assert not answer.success
    assert node.state == "unconfigured"
