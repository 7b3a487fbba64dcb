"""A command that a signal ends says so with its status, whatever the signal interrupted."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable

import pytest

from dfm_vla_ros import cli, signals
from dfm_vla_ros.errors import DfmVlaError

PATIENCE_S = 30.0


def run(monkeypatch: pytest.MonkeyPatch, body: Callable[[], int | None]) -> int:
    """Run a command of one function as the command line does."""
    parser = argparse.ArgumentParser()
    parser.set_defaults(run=lambda options: body(), command="made-up")
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    return cli.main([])


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def swallow() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        interrupt()


def turned_into_an_error() -> None:
    swallow()
    raise RuntimeError("Unable to convert call argument '0' to Python object")


def child_died_too() -> None:
    swallow()
    raise DfmVlaError("policy_node ended with status 1")


def cleanup_fails() -> None:
    try:
        interrupt()
    finally:
        raise DfmVlaError("cannot be closed")


def dropped_and_looked_for() -> None:
    swallow()
    signals.check()


def exits_with_one() -> None:
    swallow()
    raise SystemExit(1)


@pytest.mark.parametrize(
    "body",
    [
        interrupt,
        turned_into_an_error,
        child_died_too,
        cleanup_fails,
        dropped_and_looked_for,
        exits_with_one,
        lambda: (swallow(), 1)[1],
    ],
)
def test_that_an_interrupt_is_the_status_whatever_became_of_it(
    monkeypatch: pytest.MonkeyPatch, body: Callable[[], int | None]
) -> None:
    assert run(monkeypatch, body) == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_that_sigterm_has_its_own_status_where_it_is_listened_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def body() -> None:
        signals.listen(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    assert run(monkeypatch, body) == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_that_without_a_signal_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, lambda: 0) == 0
    assert run(monkeypatch, lambda: 1) == 1
    with pytest.raises(RuntimeError, match="a bug"):
        run(monkeypatch, lambda: (_ for _ in ()).throw(RuntimeError("a bug")))


def test_that_a_graph_can_be_interrupted_at_any_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """rclpy turns about one interrupt in forty into a RuntimeError, and drops one in 300."""
    from dfm_vla_ros.msg import ExecutorStatus

    from dfm_vla_ros.graph.client import GraphClient
    from dfm_vla_ros.nodes import qos

    moments = random.Random(0)

    def body() -> None:
        delay_s = moments.uniform(0.0, 0.15)
        bell = threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGINT))
        bell.start()
        try:
            with GraphClient(domain, use_sim_time=False, check=lambda: None) as client:
                topic = client.node.create_publisher(
                    ExecutorStatus, "executor_node/status", qos.STATUS
                )
                for _ in range(4):
                    client.node.create_timer(5e-4, lambda: topic.publish(ExecutorStatus()))
                end_s = time.monotonic() + PATIENCE_S
                client.until(lambda: time.monotonic() > end_s, 2 * PATIENCE_S, "interrupt")
        finally:
            bell.join()

    with qos.own_domain() as domain:
        found = {run(monkeypatch, body) for _ in range(40)}
    assert found == {130}
