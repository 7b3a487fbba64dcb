"""The life of a node's process: start, spin, end."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.nodes.lifecycle import Interrupted, ManagedNode

SWITCH_S = 5e-4
"""How long a thread keeps the interpreter while another wants it [s].

Python's default, 5 ms, is what a chunk just made or an image just come would wait for."""


class Stop:
    """Set by SIGINT and SIGTERM.

    rclpy's own handlers invalidate the context at once, under the feet of a callback that is just
    publishing. This one lets the callback end, and the node say its last words.
    """

    def __init__(self) -> None:
        """Take over both signals of this process."""
        self.requested = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._request)

    def _request(self, number: int, frame: object) -> None:
        self.requested = True


def run(make_node: Callable[[], Node], arguments: Sequence[str] | None = None) -> int:
    """Spin one node until SIGINT or SIGTERM; return the exit status.

    A managed node is started if its parameters say so. A node may have ``close()``, called before
    it is destroyed. A DfmVlaError that a callback raises ends the process with its message. The
    node must have a timer: a signal is noticed when the next callback is due.

    Nodes see this machine alone unless ROS_AUTOMATIC_DISCOVERY_RANGE says otherwise.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    stop = Stop()
    sys.setswitchinterval(SWITCH_S)
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    try:
        _spin(make_node, stop)
    except DfmVlaError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    finally:
        rclpy.try_shutdown()
        gc.freeze()  # else the ending interpreter looks through all of torch: seconds
    return 0


def _spin(make_node: Callable[[], Node], stop: Stop) -> None:
    """Make the node, spin it, take it down in order."""
    node = make_node()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if isinstance(node, ManagedNode):
            node.interrupted = lambda: stop.requested
            node.start()
        while not stop.requested:
            executor.spin_once()
    except Interrupted:
        pass  # by the signal that ends the node anyway
    finally:
        close = getattr(node, "close", None)
        if close is not None:
            close()
        executor.shutdown()
        node.destroy_node()
