"""The policy node's parameters say how its checkpoint is loaded."""

from __future__ import annotations

import pytest

from dfm_vla_ros.model.caching import Caching
from dfm_vla_ros.nodes.lifecycle import ParameterError
from dfm_vla_ros.nodes.policy_parameters import PARAMETERS, loading_options

DEFAULTS = {parameter.name: parameter.default for parameter in PARAMETERS}


def test_that_the_defaults_leave_all_to_the_checkpoint() -> None:
    assert loading_options(DEFAULTS) == {
        "device": "cpu",
        "threads": 1,
        "refinement_steps": None,
        "early_stop_within": None,
        "caching": Caching("prefix", 0.25),
        "precision": None,
    }


def test_that_given_values_reach_the_policy() -> None:
    given = {"early_stop_within": 0, "cache": "adaptive", "cache_ratio": 0.5, "precision": "int8"}
    options = loading_options(DEFAULTS | given)
    assert options["early_stop_within"] == 0
    assert options["caching"] == Caching("adaptive", 0.5)
    assert options["precision"] == "int8"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("cache", "on", "parameter cache: 'on' is none; give off, prefix, adaptive"),
        ("precision", "fp4", "parameter precision: 'fp4' is none; give float32, bfloat16, int8"),
    ],
)
def test_that_unknown_names_are_refused(name: str, value: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        loading_options(DEFAULTS | {name: value})
