"""A checkpoint that another process asks over the connection acts as the one at hand."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small import pose_checkpoint, random_observation, small_checkpoint

from dfm_vla_ros.cli import main
from dfm_vla_ros.errors import PolicyFailed
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.serving import NotServable, about
from dfm_vla_ros.policy.types import Observation
from dfm_vla_ros.remote.client import PolicyClient
from dfm_vla_ros.remote.protocol import ActRequest
from dfm_vla_ros.robot.joints import CAMERAS, JOINT_NAMES

PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving") / "checkpoint"
    small_checkpoint().save(folder, "# test\n")
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[PolicyClient]:
    """A client of ``dfm-vla serve``, which afterwards ends well at SIGTERM."""
    address = f"{folder.parent}/policy.sock"
    command = [sys.executable, "-m", "dfm_vla_ros.cli", "serve", "--checkpoint", str(folder)]
    pipes = {"stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "--address", address], **pipes) as process:
        try:
            assert process.stdout.readline().endswith(f" is served at {address}\n")
            with PolicyClient(address, PATIENCE_S, wait_s=PATIENCE_S) as client:
                yield client
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()


def asked(observation: Observation, seed: int) -> ActRequest:
    return ActRequest(
        dict(observation.images),
        observation.positions,
        observation.commanded,
        observation.instruction,
        seed,
    )


@pytest.mark.parametrize("size", [32, 57])
def test_that_the_actions_are_those_of_the_policy_at_hand(
    client: PolicyClient, folder: Path, size: int
) -> None:
    policy, observation = Policy.load(folder), random_observation(1, size)
    chunk = policy.act(observation, seed=5)
    reply = client.act(asked(observation, 5))
    expected = policy.tokenizer.decode(chunk.tokens, observation.commanded)
    np.testing.assert_array_equal(reply.actions, expected)
    assert reply.evaluations == 16
    assert reply.seconds > 0


def test_that_the_client_knows_what_the_policy_asks_for(
    client: PolicyClient, folder: Path
) -> None:
    assert client.about == about(Policy.load(folder))
    assert client.about.cameras == CAMERAS
    assert client.about.image_sizes == dict.fromkeys(CAMERAS, (32, 32))
    assert client.about.action_names == client.about.state_names == JOINT_NAMES
    assert (client.about.horizon, client.about.execute_steps) == (8, 4)


def test_that_an_instruction_without_a_known_word_is_refused(client: PolicyClient) -> None:
    observation = random_observation()
    request = ActRequest(
        dict(observation.images), observation.positions, observation.commanded, "xyzzy", 0
    )
    with pytest.raises(PolicyFailed, match="xyzzy"):
        client.act(request)
    assert client.act(asked(observation, 0)).evaluations == 16


def test_that_a_policy_of_object_poses_is_not_served(tmp_path: Path) -> None:
    pose_checkpoint().save(tmp_path / "poses", "# test\n")
    with pytest.raises(NotServable, match="sees 3 object poses, which only the twin"):
        about(Policy.load(tmp_path / "poses"))


def test_that_the_overhead_is_measured_over_both_kinds_of_socket(tmp_path: Path) -> None:
    result = tmp_path / "overhead.json"
    few = ["--calls", "5", "--size", "16", "--json", str(result)]
    status = main(["bench", "connection", *few])
    found = json.loads(result.read_text())["overhead"]
    assert set(found) == {"TCP, loopback", "local socket"}
    assert all(0 < kind["median_s"] <= kind["p99_s"] for kind in found.values())
    assert all(kind["bytes"] == 2 * 16 * 16 * 3 for kind in found.values())
    assert status == int(any(kind["median_s"] >= 3e-3 for kind in found.values()))
