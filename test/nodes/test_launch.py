"""The launch files load and say what they take."""

from __future__ import annotations

import importlib.util

import pytest

from dfm_vla_ros.resources import PACKAGE

FILES = ("bringup", "sim", "policy")
ARGUMENTS = {"namespace", "use_sim_time", "params_file", "log_level"}


@pytest.mark.launch
@pytest.mark.parametrize("name", FILES)
def test_that_a_launch_file_declares_its_arguments(name: str) -> None:
    pytest.importorskip("launch_ros")
    path = PACKAGE.parent / "launch" / f"{name}.launch.py"
    spec = importlib.util.spec_from_file_location(f"{name}_launch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    declared = module.generate_launch_description().get_launch_arguments()
    assert {argument.name for argument in declared} >= ARGUMENTS
    assert all(argument.description for argument in declared)
