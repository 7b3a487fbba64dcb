import json

import pytest

from dfm_vla_ros.benchmarks.calvin import CalvinProtocol
from dfm_vla_ros.benchmarks.evaluation import find_preset, presets
from dfm_vla_ros.errors import BenchmarkError


def test_that_the_official_preset_has_the_official_numbers() -> None:
    official = find_preset(CalvinProtocol, "official")
    assert (official.steps, official.actions, official.rendering) == (360, "relative", "always")
    assert (official.renderer, official.scene) == ("egl", "calvin_scene_D")
    assert (official.gripper.opens, official.gripper.closes) == (1, -1)


def test_that_another_budget_has_another_name() -> None:
    assert presets(CalvinProtocol)["five_times_budget"].steps == 5 * 360
    assert find_preset(CalvinProtocol, "official", steps=1800).name == "official (steps 1800)"
    assert find_preset(CalvinProtocol, "official", steps=360, replan=None) == find_preset(
        CalvinProtocol, "official"
    )


@pytest.mark.parametrize("name", ["official", "five_times_budget", "dfm_vla"])
def test_that_a_protocol_survives_its_record(name: str) -> None:
    protocol = find_preset(CalvinProtocol, name)
    content = json.loads(json.dumps(protocol.record()))
    assert CalvinProtocol.read(content, "") == protocol


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": "many"}, "steps is 'many'"),
        ({"actions": "sideways"}, "give relative or absolute"),
        ({"speed": 2}, "no setting 'speed'"),
        ({"gripper": {"closed": 1}}, "of another type"),
    ],
)
def test_that_a_wrong_setting_is_named(content: dict[str, object], message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        CalvinProtocol.read(content, "mine")


def test_that_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(BenchmarkError, match="there are official"):
        find_preset(CalvinProtocol, "unofficial")
