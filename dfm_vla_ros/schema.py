"""Typed files: what they hold is declared once, read strictly, and refused in plain words.

Declare the content as a frozen dataclass:

    @settings
    class Network:
        '''Size of the network.'''

        width: int = key(192, "of the residual stream", ge=1)
        layers: int = key(..., "of the transformer; this key is required")
        target: Literal["median", "argmax"] = "median"

`settings` makes a pydantic dataclass, which checks its values whenever one is made. Plain
dataclasses (also nested ones) work as well; they are checked by the functions of this module
alone. In both, an unknown key is refused, and types are strict: an int stands for a float, a list
for a tuple, and nothing else is converted (no text or bool for a number). Numbers are finite.

`parse` makes such an object of what `read_json` or `read_yaml` found in a file, or raises one
error of a line that names file, key, value, bound and, for an unknown key, the one that may be
meant. Callers choose the class of the error:

    config = parse(Network, read_json(path, CheckpointError), str(path), CheckpointError)
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, to_jsonable_python

from dfm_vla_ros.errors import DfmVlaError

Kind = TypeVar("Kind")
CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class ConfigError(DfmVlaError):
    """A key that does not exist or is missing, a value of the wrong type or out of bounds."""


def key(default: Any, text: str, **bounds: float) -> Any:
    """Return a field with its meaning and bounds (``gt``, ``ge``, ``lt``, ``le``).

    A ``default`` of ... makes a key that must be given.
    """
    return Field(default, description=text, **bounds)


@dataclass_transform(frozen_default=True, field_specifiers=(key, Field))
def settings(kind: type[Kind]) -> type[Kind]:
    """Make a frozen dataclass that checks its fields, as the module says."""
    return dataclass(kind, frozen=True, config=CONFIG)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Texts = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
"""A list of texts; a single one need not be in a list."""


def parse(
    kind: type[Kind], content: Any, source: str = "", error: type[DfmVlaError] = ConfigError
) -> Kind:
    """Return ``content``, of JSON or YAML, as a ``kind``.

    Args:
        kind: a dataclass, a pydantic model, or a tuple or dict of them.
        content: mappings, lists, texts and numbers.
        source: what the error names in front, such as the file's path.
        error: what to raise.

    Raises:
        DfmVlaError: ``error``; a key is unknown or missing, or a value is wrong.
    """
    start = f"{source}: " if source else ""
    if content is None:
        raise error(f"{start}{_no_keys('', None)}")
    try:
        return _adapter(kind).validate_json(json.dumps(content, default=str))
    except ValidationError as found:
        entries = sorted(found.errors(include_url=False), key=lambda e: e["type"] not in _UNKNOWN)
        raise error(start + "; ".join(_problem(kind, entry) for entry in entries)) from found
    except DfmVlaError as found:  # of a __post_init__
        raise error(f"{start}{found}") from found


def read_json(path: Path, error: type[DfmVlaError] = ConfigError) -> Any:
    """Return what a JSON file holds; raises ``error``."""
    try:
        return json.loads(_read_text(path, error))
    except ValueError as found:
        raise error(f"{path} is no JSON ({found}): restore it") from found


def read_yaml(
    path: Path, overrides: Iterable[str] = (), error: type[DfmVlaError] = ConfigError
) -> dict[str, Any]:
    """Return the keys in a YAML file, with ``group.key=value`` on top; raises ``error``."""
    try:
        content = yaml.load(_read_text(path, error), _Loader) or {}
    except yaml.YAMLError as found:
        raise error(f"{path}: {found}") from found
    if not isinstance(content, dict):
        raise error(f"{path}: {_no_keys('', content)}")
    for override in overrides:
        apply(content, override)
    return content


def _read_text(path: Path, error: type[DfmVlaError]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as found:
        raise error(f"{path} is missing") from found
    except (OSError, UnicodeDecodeError) as found:
        raise error(f"{path} cannot be read: {found}") from found


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 and 1e4 as numbers, as YAML 1.2 does; PyYAML takes them for text."""


def _exponent(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    value = float(loader.construct_scalar(node))
    return int(value) if value.is_integer() else value


_Loader.add_implicit_resolver(
    "!exponent", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
_Loader.add_constructor("!exponent", _exponent)


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
        content[last] = yaml.load(value, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{override!r}: {value!r} is no YAML value: {error}") from error


def plain(value: Any) -> Any:
    """Return a dataclass or model as what JSON and YAML know."""
    return to_jsonable_python(value)


def differing(a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted name, value in a, value in b) of every key that two dataclasses differ in."""
    mine, others = dict(_flat(asdict(a))), dict(_flat(asdict(b)))
    for name, value in mine.items():
        if value != others[name]:
            yield name, value, others[name]


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@cache
def _adapter(kind: Any) -> TypeAdapter:
    """Check plain dataclasses as strictly; pydantic takes their config for a union alone."""
    return TypeAdapter(Union[kind, None], config=CONFIG)  # noqa: UP007


# What is said of a problem.

_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
}
_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def _problem(kind: Any, entry: ErrorDetails) -> str:
    """Return one line about what pydantic found."""
    *groups, last = entry["loc"] or ("",)
    name, value, reason = _dotted(entry["loc"]), entry["input"], entry["type"]
    if reason in _UNKNOWN:
        return f"unknown key {name}{_hint(_inside(kind, groups), str(last), groups)}"
    if reason == "missing":
        text = getattr(_declared(_inside(kind, groups)).get(str(last)), "description", "")
        return f"{name} is missing{f': {text}' if text else ''}"
    if reason in ("dataclass_type", "model_type", "dict_type"):
        return _no_keys(name, value)
    bounds = [(word, entry["ctx"][k]) for k, word in _BOUNDS.items() if k in entry.get("ctx", {})]
    if bounds:
        return f"{name} is {value}: give {bounds[0][0]} {bounds[0][1]:.12g}"
    if reason == "literal_error":
        return f"{name} is {value!r}: {_choices(value, entry['ctx']['expected'])}"
    if reason == "finite_number":
        return f"{name} is {value}: give a finite number"
    expected = _EXPECTED.get(reason.removesuffix("_type"))
    message = f", expected {expected}" if expected else f": {entry['msg']}"
    return f"{name} is {value!r}{message}"


def _dotted(loc: Iterable[str | int]) -> str:
    """Return a.b.2 of pydantic's path, without the names of its validators."""
    return ".".join(str(step) for step in loc if not re.search(r"\W", str(step)))


def _no_keys(name: str, value: Any) -> str:
    return f"{name or 'the content'} must hold keys, got {value!r}"


def _choices(value: Any, expected: str) -> str:
    known = re.findall(r"'([^']*)'", expected) or [expected]
    near = difflib.get_close_matches(str(value), known, n=1)
    return f"choose one of {', '.join(known)}{f'; did you mean {near[0]}?' if near else ''}"


def _hint(kind: Any, name: str, groups: list[str | int]) -> str:
    """Return the key that ``name`` may have been meant for, here or in a group below."""
    known = list(_declared(kind))
    deeper = [path for path in leaves(kind) if path.rpartition(".")[2] == name]
    near = deeper or difflib.get_close_matches(name, known, n=1)
    prefix = f"{_dotted(groups)}." if groups else ""
    return f"; did you mean {prefix}{near[0]}?" if near else f"; known: {', '.join(known)}"


# What a kind declares.


@cache
def _declared(kind: Any) -> dict[str, FieldInfo]:
    """Return the fields of a dataclass or model; of a plain dataclass, with its docstring."""
    found = getattr(kind, "__pydantic_fields__", None)
    if found is not None or not is_dataclass(kind):
        return found or {}
    hints, texts = get_type_hints(kind, include_extras=True), _docstring_texts(kind)
    found = {}
    for entry in fields(kind):
        default = entry.default if entry.default_factory is MISSING else entry.default_factory()
        given = () if default is MISSING else (default,)
        make = FieldInfo.from_annotated_attribute if given else FieldInfo.from_annotation
        found[entry.name] = make(hints[entry.name], *given)
        found[entry.name].description = found[entry.name].description or texts.get(entry.name)
    return found


def _docstring_texts(kind: type) -> dict[str, str]:
    """Return the ``Attributes:`` of a Google docstring."""
    _, _, section = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    entries = re.findall(r"^ {4}([\w, ]+): (.*(?:\n {8}.*)*)", section, flags=re.MULTILINE)
    return {
        name.strip(): " ".join(text.split())
        for names, text in entries
        for name in names.split(",")
    }


def _inside(kind: Any, loc: Iterable[str | int]) -> Any:
    """Return the type at ``loc`` within ``kind``."""
    for step in loc:
        kind = _bare(kind)
        if get_origin(kind) is None:
            kind = _declared(kind)[str(step)].annotation if str(step) in _declared(kind) else kind
        else:
            kind = get_args(kind)[0 if isinstance(step, int) else -1]
    return _bare(kind)


def _bare(kind: Any) -> Any:
    """Return the type within ``Annotated`` and beside ``None``."""
    while get_origin(kind) in (Annotated, Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    return kind


def leaves(kind: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every key that holds a value."""
    for name, entry in _declared(kind).items():
        inner = _bare(entry.annotation)
        if _declared(inner):
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def describe(kind: Any) -> str:
    """Return every key with its type, default, bounds and meaning."""
    return "\n".join(_lines(kind, ""))


def _lines(kind: Any, prefix: str) -> Iterator[str]:
    for name, entry in _declared(kind).items():
        inner, text = _bare(entry.annotation), entry.description or ""
        if _declared(inner):
            yield f"\n{prefix}{name}: {text or inspect.getdoc(inner).partition(chr(10))[0]}"
            yield from _lines(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name} ({', '.join([_type(entry.annotation), *_limits(entry)])})"
            yield from textwrap.wrap(text, 96, initial_indent=" " * 4, subsequent_indent=" " * 4)


def _type(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (tuple, list):
        return f"list of {_type(arguments[0])}"
    if origin in (Union, types.UnionType):
        return " or ".join(map(_type, arguments))
    words = {str: "text", int: "whole number", float: "number", bool: "true | false"}
    return words.get(kind, "null" if kind is type(None) else "keys")


def _limits(entry: FieldInfo) -> Iterator[str]:
    """Yield default and bounds."""
    value = None if entry.is_required() else plain(entry.default)
    text = value if isinstance(value, str) and value else json.dumps(value)
    yield "required" if entry.is_required() else f"default {text}"
    found = [
        (w, getattr(m, k)) for k, w in _BOUNDS.items() for m in entry.metadata if hasattr(m, k)
    ]
    if found:
        yield " and ".join(f"{word} {bound:.12g}" for word, bound in found)
