"""The keys of a config as text, from the dataclasses themselves."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dfm_vla_ros.training.schema import plain

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
