"""What goes wrong on the inference thread ends a goal by name, and the thread goes on."""

from __future__ import annotations

import gc
import time
import weakref
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small import small_checkpoint

from dfm_vla_ros.errors import FlowError
from dfm_vla_ros.nodes.inference import InferenceFailed, InferenceThread
from dfm_vla_ros.nodes.policy_node import PolicyNode
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.session import PolicyCall
from dfm_vla_ros.policy.types import Observation
from dfm_vla_ros.robot.joints import CAMERAS


@pytest.mark.parametrize("where", ["policy", "publisher"])
def test_that_an_error_on_the_way_to_a_published_chunk_is_the_goals_failure(where: str) -> None:
    woken: list[bool] = []

    def fail(*_: object) -> None:
        raise ValueError("no tokens")

    def work(*_: object) -> None:
        pass

    node = SimpleNamespace(
        inference=SimpleNamespace(act=fail if where == "policy" else work),
        _publish_chunk=fail if where == "publisher" else work,
        _wake=SimpleNamespace(trigger=lambda: woken.append(True)),
        values={"minimum_inference_time": 0.0},
        failed=0,
    )
    goal = SimpleNamespace(failure="")
    PolicyNode._make_chunk(node, goal, None, False)
    assert goal.failure == "no tokens"
    assert woken
    assert node.failed == 1


@pytest.fixture
def errors() -> list[str]:
    return []


@pytest.fixture
def inference(errors: list[str]) -> InferenceThread:
    made = InferenceThread(errors.append)
    made.load(lambda: Policy(small_checkpoint()), None).result(60)
    yield made
    made.stop()


def grey() -> Observation:
    picture = np.full((32, 32, 3), 128, dtype=np.uint8)
    images = dict.fromkeys(CAMERAS, picture)
    return Observation(images, np.zeros(14), np.zeros(14), "place the block on the plate")


def ask(inference: InferenceThread, minimum_s: float = 0.0) -> Future:
    """Return the future of a chunk once it is done."""
    done: Future = Future()

    def act() -> None:
        try:
            done.set_result(inference.act(PolicyCall(grey(), 0), minimum_s))
        except InferenceFailed as error:
            done.set_exception(error)

    inference.submit(act)
    done.exception(30)
    return done


def test_that_memory_that_runs_out_is_named_freed_and_over_with_the_next_call(
    inference: InferenceThread, errors: list[str]
) -> None:
    held: list[weakref.ref] = []
    act = inference.policy.act

    def run_out(*_: object) -> None:
        tensor = torch.zeros(1000)
        held.append(weakref.ref(tensor))
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    inference.policy.act = run_out
    with pytest.raises(InferenceFailed, match="OutOfMemoryError: CUDA out of memory"):
        ask(inference).result()
    gc.collect()
    assert held[0]() is None, "the tensors of the failed call are freed"
    assert "run_out" in errors[0], "the log has the trace"
    inference.policy.act = act
    assert ask(inference).result().tokens.shape == (8, 14)


def test_that_a_slower_network_can_be_rehearsed(inference: InferenceThread) -> None:
    assert ask(inference, minimum_s=0.3).result().inference_s == pytest.approx(0.3, abs=0.1)


def test_that_a_rehearsal_ends_with_the_node(inference: InferenceThread) -> None:
    inference.submit(inference.act, PolicyCall(grey(), 0), 10.0)
    time.sleep(0.2)
    loaded = weakref.ref(inference.policy)
    began_s = time.monotonic()
    inference.unload()
    assert time.monotonic() - began_s < 5.0
    assert not inference.idle
    gc.collect()
    assert loaded() is None, "the policy is freed"


def test_that_a_warm_start_that_leaves_no_step_is_refused_when_loading(
    errors: list[str],
) -> None:
    made = InferenceThread(errors.append)
    with pytest.raises(FlowError):
        made.load(lambda: Policy(small_checkpoint()), 1.5).result(60)
    assert made.policy is None
    made.stop()
