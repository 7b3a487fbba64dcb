"""Parameters with descriptors; a key that no node knows is an error, not a silent default."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterValueException, ParameterException
from rclpy.node import Node

from dfm_vla_ros.errors import DfmVlaError


class ParameterError(DfmVlaError):
    """A parameter is unknown, of the wrong type or out of its range."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node, fixed once the node runs unless it is ``dynamic``.

    Attributes:
        name: as in the YAML file.
        default: also gives the type.
        description: with the unit.
        bounds: smallest and largest value of a number.
        dynamic: may be set while the node runs.
    """

    name: str
    default: Any
    description: str
    bounds: tuple[float, float] | None = None
    dynamic: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """Return what ``ros2 param describe`` shows."""
        made = ParameterDescriptor(description=self.description, read_only=not self.dynamic)
        if self.bounds is None:
            return made
        low, high = self.bounds
        if isinstance(self.default, float):
            made.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        else:
            made.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
        return made


def declare(node: Node, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Declare ``parameters`` on ``node`` and return their values by name.

    Raises:
        ParameterError: a value is unusable, or a key was given that the node does not know.
    """
    values = {parameter.name: _declare(node, parameter) for parameter in parameters}
    _refuse_unknown(node)
    return values


def _declare(node: Node, parameter: Parameter) -> Any:
    """Declare one parameter; explain what is wrong with the value given."""
    try:
        value = node.declare_parameter(
            parameter.name, parameter.default, parameter.descriptor()
        ).value
    except InvalidParameterValueException as error:
        raise ParameterError(
            f"parameter {parameter.name}: {error}; allowed is {parameter.bounds} "
            f"({parameter.description})"
        ) from error
    except ParameterException as error:
        kind = type(parameter.default).__name__
        raise ParameterError(
            f"parameter {parameter.name}: {error}; its type is {kind} ({parameter.description})"
        ) from error
    if isinstance(value, float) and not math.isfinite(value):  # no range excludes NaN
        raise ParameterError(
            f"parameter {parameter.name}: {value} is not finite; allowed is {parameter.bounds} "
            f"({parameter.description})"
        )
    return value


def _refuse_unknown(node: Node) -> None:
    """Refuse overrides of parameters that were never declared: a typo."""
    # rclpy keeps what the command line and YAML files gave here and offers no public view of it.
    given = node._parameter_overrides
    for name in given:
        if node.has_parameter(name) or name.startswith("qos_overrides."):
            continue
        known = sorted(node._parameters)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; it has {', '.join(known)}"
        raise ParameterError(f"{node.get_name()} has no parameter {name!r}{hint}")
