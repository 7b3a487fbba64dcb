"""What goes wrong on the inference thread ends a goal by name, and the thread goes on."""

from __future__ import annotations

import gc
import time
import weakref
from concurrent.futures import Future
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small import small_checkpoint

from dfm_vla_ros.errors import FlowError
from dfm_vla_ros.nodes.chunk_maker import ChunkMaker, Inference, InferenceFailed
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.types import Observation
from dfm_vla_ros.robot.joints import CAMERAS


@pytest.mark.parametrize("where", ["policy", "publisher"])
def test_that_an_error_on_the_way_to_a_published_chunk_is_the_goals_failure(where: str) -> None:
    woken: list[bool] = []
    done: Future = Future()
    if where == "policy":
        done.set_exception(InferenceFailed("ValueError: no tokens"))
    else:
        done.set_result("chunk")

    def publish(*_: object) -> None:
        raise ValueError("no tokens")

    maker = SimpleNamespace(_publish_chunk=publish, _wake=lambda: woken.append(True), failed=0)
    goal = SimpleNamespace(failure="")
    ChunkMaker._on_chunk(maker, SimpleNamespace(goal=goal), done)
    assert goal.failure.endswith("no tokens")
    assert woken
    assert maker.failed == 1


@pytest.fixture
def errors() -> list[str]:
    return []


@pytest.fixture
def inference(errors: list[str]) -> Inference:
    made = Inference(errors.append)
    made.load(lambda: Policy(small_checkpoint()), None).result(60)
    yield made
    made.stop()


def grey() -> Observation:
    picture = np.full((32, 32, 3), 128, dtype=np.uint8)
    images = dict.fromkeys(CAMERAS, picture)
    return Observation(images, np.zeros(14), np.zeros(14), "place the block on the plate")


def ask(inference: Inference, minimum_s: float = 0.0) -> Future:
    """Return the future of a chunk once it is done."""
    done, came = [], Event()

    def take(future: Future) -> None:
        done.append(future)
        came.set()

    inference.submit(grey(), 0, None, minimum_s, take)
    assert came.wait(30)
    return done[0]


def test_that_memory_that_runs_out_is_named_freed_and_over_with_the_next_call(
    inference: Inference, errors: list[str]
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


def test_that_a_slower_network_can_be_rehearsed(inference: Inference) -> None:
    assert ask(inference, minimum_s=0.3).result().inference_s == pytest.approx(0.3, abs=0.1)


def test_that_a_rehearsal_ends_with_the_node(inference: Inference) -> None:
    inference.submit(grey(), 0, None, 10.0, lambda _: None)
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
    made = Inference(errors.append)
    with pytest.raises(FlowError):
        made.load(lambda: Policy(small_checkpoint()), 1.5).result(60)
    assert made.policy is None
    made.stop()
