"""Settings as dataclasses whose fields know their meaning and bounds; from YAML and key=value."""

from __future__ import annotations

import difflib
import inspect
import json
import math
import re
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from dfm_vla_ros.errors import DfmVlaError

Schema = TypeVar("Schema")


class ConfigError(DfmVlaError):
    """A key that does not exist, a value of the wrong type, or one out of bounds."""


@dataclass(frozen=True)
class Bounds:
    """What a number may be: at least ``low``, or above ``above``, and at most ``high``."""

    low: float | None = None
    above: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        parts = {"at least": self.low, "above": self.above, "at most": self.high}
        given = {word: value for word, value in parts.items() if value is not None}
        return " and ".join(f"{word} {value}" for word, value in given.items())

    def hold(self, value: float) -> bool:
        """Return whether ``value`` is within."""
        return not (
            (self.low is not None and value < self.low)
            or (self.above is not None and value <= self.above)
            or (self.high is not None and value > self.high)
        )


def key(default: Any, text: str, **bounds: float) -> Any:
    """Return a field with its meaning and, for numbers, ``low``, ``above`` and ``high``."""
    return field(default=default, metadata={"text": text, "bounds": Bounds(**bounds)})


def required(text: str) -> Any:
    """Return a field without a default."""
    return field(metadata=about(text))


def about(text: str) -> dict[str, str]:
    """Return the metadata of a group of keys: its meaning."""
    return {"text": text}


def apply(content: dict[str, Any], override: str) -> None:
    """Set ``group.key=value`` in ``content``; the value is read as YAML.

    Raises:
        ConfigError: it has another form, or the group holds a value.
    """
    name, equals, value = override.partition("=")
    if not equals or not name:
        raise ConfigError(f"{override!r} is not of the form key=value, such as steps=500")
    *groups, last = name.split(".")
    for group in groups:
        content = content.setdefault(group, {})
        if not isinstance(content, dict):
            raise ConfigError(f"{override!r}: {group} holds {content!r}, no keys")
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"{override!r}: {value!r} is no YAML value: {error}") from error


def build(schema: type[Schema], content: Any, prefix: str = "") -> Schema:
    """Return ``schema`` filled from nested mappings.

    Raises:
        ConfigError: a key is unknown (the message names the nearest one) or missing, or a value
            has the wrong type or is out of bounds.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"{prefix.rstrip('.') or 'the file'} must hold keys, got {content!r}")
    known = {entry.name: entry for entry in fields(schema)}
    for name in content:
        if name not in known:
            raise ConfigError(f"unknown key {prefix}{name}{_hint(schema, str(name), prefix)}")
    for name, entry in known.items():
        if name not in content and _required(entry):
            raise ConfigError(f"{prefix}{name} is missing: {entry.metadata.get('text', '')}")
    hints = get_type_hints(schema)
    values = {}
    for name, value in content.items():
        values[name] = convert(value, hints[name], f"{prefix}{name}")
        _check_bounds(known[name], values[name], f"{prefix}{name}")
    try:
        return schema(**values)
    except ConfigError:
        raise
    except (DfmVlaError, ValueError) as error:
        raise ConfigError(f"{prefix.rstrip('.')}: {error}") from error


def convert(value: Any, wanted: Any, name: str) -> Any:
    """Return ``value`` as the type ``wanted``; ``name`` is for the error.

    Raises:
        ConfigError: it is none.
    """
    if is_dataclass(wanted):
        return build(wanted, value, f"{name}.")
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        inner = next(part for part in arguments if part is not type(None))
        return None if value is None else convert(value, inner, name)
    if origin is Literal:
        return _choice(value, arguments, name)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} must hold keys, got {value!r}")
        return {str(inner): item for inner, item in value.items()}
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(convert(item, arguments[0], name) for item in items)
    return _scalar(value, wanted, name)


def _choice(value: Any, choices: tuple[str, ...], name: str) -> str:
    if value in choices:
        return value
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"{name} is {value!r}: choose one of {', '.join(choices)}{hint}")


def _scalar(value: Any, wanted: type, name: str) -> Any:
    if wanted in (int, float) and isinstance(value, str):
        value = _number(value)  # YAML reads 1e-3 as text
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ConfigError(f"{name} is {value}: give a finite number")
        return float(value)
    if wanted is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)):
        return value
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise ConfigError(f"{name} is {value!r}, expected {words.get(wanted, wanted.__name__)}")


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _check_bounds(entry: Field, value: Any, name: str) -> None:
    bounds = entry.metadata.get("bounds")
    if bounds is None or isinstance(value, bool) or not isinstance(value, int | float):
        return
    if not bounds.hold(value):
        raise ConfigError(f"{name} is {value}: give {bounds}")


def _required(entry: Field) -> bool:
    return entry.default is MISSING and entry.default_factory is MISSING


def _hint(schema: type, name: str, prefix: str) -> str:
    own = [entry.name for entry in fields(schema)]
    deeper = [path for path, _, _ in leaves(schema) if path.rpartition(".")[2] == name]
    near = deeper or difflib.get_close_matches(name, own, n=1)
    if near:
        return f"; did you mean {prefix}{near[0]}?"
    return f"; known: {', '.join(own)}"


def leaves(schema: type, prefix: str = "") -> Iterator[tuple[str, Field, Any]]:
    """Yield (dotted name, field, type) of every key that holds a value."""
    hints = get_type_hints(schema)
    for entry in fields(schema):
        wanted = hints[entry.name]
        if is_dataclass(wanted):
            yield from leaves(wanted, f"{prefix}{entry.name}.")
        else:
            yield f"{prefix}{entry.name}", entry, wanted


def differing(a: Any, b: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted name, value in a, value in b) of every key that two configs differ in."""
    for entry in fields(a):
        mine, other = getattr(a, entry.name), getattr(b, entry.name)
        if is_dataclass(mine) and is_dataclass(other):
            yield from differing(mine, other, f"{prefix}{entry.name}.")
        elif mine != other:
            yield f"{prefix}{entry.name}", mine, other


def plain(value: Any) -> Any:
    """Return dataclasses and tuples as what YAML knows."""
    if is_dataclass(value):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def read(schema: type[Schema], text: str, overrides: Iterable[str], source: str) -> Schema:
    """Return ``schema`` from YAML ``text`` with ``overrides`` on top.

    Raises:
        ConfigError: it is no YAML, or see `build` and `apply`.
    """
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{source} must hold keys, got {content!r}")
    for override in overrides:
        apply(content, override)
    return build(schema, content)


WIDTH = 96


def describe(schema: type) -> str:
    """Return every key with its type, default, bounds and meaning."""
    return "\n".join(_lines(schema, ""))


def _lines(schema: type, prefix: str) -> Iterator[str]:
    hints, texts = get_type_hints(schema), _docstring_texts(schema)
    for entry in fields(schema):
        wanted, name = hints[entry.name], f"{prefix}{entry.name}"
        text = entry.metadata.get("text") or texts.get(entry.name, "")
        if is_dataclass(wanted):
            yield f"\n{name}: {text or _summary(wanted)}"
            yield from _lines(wanted, f"{name}.")
        else:
            yield f"{name} ({_type(wanted)}{_default(entry)}{_bounds(entry)})"
            yield from textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")


def _type(wanted: Any) -> str:
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        return " | ".join(arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin in (Union, types.UnionType):
        return " or ".join("null" if a is type(None) else _type(a) for a in arguments)
    return {str: "text", int: "whole number", float: "number", bool: "true | false"}[wanted]


def _default(entry: Field) -> str:
    if entry.default is MISSING:
        return ", required"
    value = plain(entry.default)
    return f", default {value if isinstance(value, str) and value else json.dumps(value)}"


def _bounds(entry: Field) -> str:
    text = str(entry.metadata.get("bounds", ""))
    return f", {text}" if text else ""


def _summary(schema: type) -> str:
    return (inspect.getdoc(schema) or "").partition("\n")[0]


def _docstring_texts(schema: type) -> dict[str, str]:
    """Return the ``Attributes:`` of a Google docstring."""
    _, _, section = (inspect.getdoc(schema) or "").partition("Attributes:\n")
    entries = re.findall(r"^ {4}([\w, ]+): (.*(?:\n {8}.*)*)", section, flags=re.MULTILINE)
    return {
        name.strip(): " ".join(text.split())
        for names, text in entries
        for name in names.split(",")
    }
