"""Parameters of ``policy_node`` and what they make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

import torch

from dfm_vla_ros.model.caching import Caching, Mode
from dfm_vla_ros.model.unified_weights import Precision
from dfm_vla_ros.nodes import inputs
from dfm_vla_ros.nodes.lifecycle import AUTOSTART, Parameter, ParameterError
from dfm_vla_ros.observing import sources as kept
from dfm_vla_ros.observing.cameras import TRANSPORTS
from dfm_vla_ros.observing.sources import SOURCES, TRIGGER, Bounds, ObserverSettings
from dfm_vla_ros.policy import types
from dfm_vla_ros.robot.chunks import JoinMode

TRIGGERING = f"{TRIGGER}_camera"
CACHES = dict.fromkeys(get_args(Mode))
PRECISIONS = dict.fromkeys(("", *get_args(Precision)))
MODES = {mode.name.lower(): mode for mode in JoinMode}


def _source_parameters(source: str) -> tuple[Parameter, ...]:
    """Return the bounds of one source; all skews are counted from the triggering one."""
    age = Parameter(
        f"sources.{source}.maximum_age", kept.AGE_S, "[s] older stops chunks", (0.05, 60.0)
    )
    skew = Parameter(
        f"sources.{source}.maximum_skew",
        kept.SKEW_S,
        "[s] of stamps, from the third view",
        (0.005, 60.0),
    )
    return (age,) if source == TRIGGERING else (age, skew)


PARAMETERS = (
    Parameter("checkpoint", "", "checkpoint folder; empty: the shipped one"),
    Parameter("device", "cpu", "cpu, cuda or cuda:N"),
    Parameter("threads", 1, "CPU threads of torch", (1, 64)),
    Parameter("refinement_steps", 0, "instead of the checkpoint's; 0: its own", (0, 1000)),
    Parameter("early_stop_within", -1, "tokens; -1: the checkpoint's rule", (-1, 65535)),
    Parameter("cache", "prefix", "kept within a chunk: off, prefix or adaptive"),
    Parameter("cache_ratio", 0.25, "adaptive: share of positions computed anew", (0.01, 1.0)),
    Parameter("precision", "", "float32, bfloat16 or int8; empty: as saved"),
    Parameter("execute_steps", 0, "control steps before the next chunk; 0: its own", (0, 64)),
    Parameter("seed", 0, "of the refinement: same observations, same tokens", (0, 2**31)),
    Parameter("mode", types.MODE, "how a chunk joins: rtc, blend, latest or synchronous"),
    Parameter(
        "warm_start", types.WARM_START, "rtc: t0 free tokens start at; 0: noise", (0.0, 0.99)
    ),
    Parameter("minimum_inference_time", 0.0, "[s] rehearse a slower network", (0.0, 10.0)),
    *(parameter for source in SOURCES for parameter in _source_parameters(source)),
    Parameter(
        "frozen_timeout",
        kept.FROZEN_TIMEOUT_S,
        "[s] of one picture while arms move; 0: off",
        (0.0, 60.0),
    ),
    Parameter(
        "frozen_motion", kept.FROZEN_MOTION_RAD, "[rad] that a picture must show", (0.001, 3.0)
    ),
    Parameter(
        "maximum_tracking_error", kept.TRACKING_RAD, "[rad] between command and joint", (0.01, 7.0)
    ),
    Parameter("stale_timeout", 5.0, "[s] without fresh observations abort a goal", (0.1, 600.0)),
    Parameter("default_timeout", 60.0, "[s] of a goal that names none", (0.1, 86400.0)),
    Parameter("longest_instruction", 512, "[bytes]", (1, 65536)),
    Parameter("image_transport", "raw", "raw, or compressed: subscribe image_raw/compressed"),
    *inputs.PARAMETERS,
    AUTOSTART,
)


def observer_settings(values: Mapping[str, Any]) -> ObserverSettings:
    """Return what an observation must keep.

    Raises:
        ParameterError: there is no such image transport.
    """
    transport = choice(values, "image_transport", TRANSPORTS)
    bounds = {
        source: Bounds(
            values[f"sources.{source}.maximum_age"],
            values.get(f"sources.{source}.maximum_skew", float("inf")),
        )
        for source in SOURCES
    }
    return ObserverSettings(
        bounds,
        values["maximum_tracking_error"],
        values["frozen_timeout"],
        values["frozen_motion"],
        transport,
        values,
    )


def loading_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``Policy.load`` is told beside the folder.

    Raises:
        ParameterError: there is no such cache or precision.
    """
    within = values["early_stop_within"]
    return {
        "device": values["device"],
        "threads": values["threads"],
        "refinement_steps": values["refinement_steps"] or None,
        "early_stop_within": None if within < 0 else within,
        "caching": Caching(choice(values, "cache", CACHES), values["cache_ratio"]),
        "precision": choice(values, "precision", PRECISIONS) or None,
    }


def choice(values: Mapping[str, Any], name: str, known: Mapping[str, Any]) -> str:
    """Return the value of the parameter ``name``.

    Raises:
        ParameterError: it is none of ``known``.
    """
    value = values[name]
    if value not in known:
        names = ", ".join(filter(None, known))
        raise ParameterError(f"parameter {name}: {value!r} is none; give {names}")
    return value


def check_device(device: str) -> None:
    """Refuse a device that torch would refuse only when everything else is loaded.

    Raises:
        ParameterError: it is none, or this machine lacks it.
    """
    if device == "cpu":
        return
    kind = re.fullmatch(r"cuda(?::(\d+))?", device)
    if kind is None:
        raise ParameterError(f"parameter device: {device!r} is none; give cpu, cuda or cuda:N")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(kind.group(1) or 0) >= found:
        raise ParameterError(
            f"parameter device: {device!r} is not there; torch finds {found} CUDA devices"
        )
