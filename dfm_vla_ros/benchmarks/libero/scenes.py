"""Changes to the text of a scene (bddl): who stands where, what things are, what is to be done."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dfm_vla_ros.benchmarks.libero.errors import SceneError


def section(text: str, name: str) -> tuple[int, int]:
    """Return where ``(:name ...)`` begins and ends in ``text``.

    Raises:
        SceneError: there is none, or it does not end.
    """
    start = re.search(rf"\(:{name}\b", text)
    if start is None:
        raise SceneError(f"the scene has no section :{name}")
    depth = 0
    for place in range(start.start(), len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return start.start(), place + 1
    raise SceneError(f"the scene's section :{name} does not end")


def swap_places(text: str, first: str, second: str) -> str:
    """Return the scene with ``first`` where ``second`` was at the start, and the reverse.

    Raises:
        SceneError: one of them has no place of its own.
    """
    begin, end = section(text, "init")
    init = text[begin:end]
    for name in (first, second):
        if not re.search(rf"\(\w+ {re.escape(name)} ", init):
            raise SceneError(f"the scene places no {name!r} at the start; it cannot be swapped")
    other = {first: second, second: first}
    pattern = rf"(\(\w+ )({re.escape(first)}|{re.escape(second)})(?= )"
    changed = re.sub(pattern, lambda found: found[1] + other[found[2]], init)
    return text[:begin] + changed + text[end:]


def replace_kind(text: str, kind: str, other: str) -> str:
    """Return the scene with ``other`` things instead of those of ``kind``; names stay.

    Raises:
        SceneError: nothing is of this kind.
    """
    pattern = rf"(?m)(\s-\s+){re.escape(kind)}(?=[\s)])"
    changed, count = re.subn(pattern, rf"\g<1>{other}", text)
    if not count:
        raise SceneError(f"the scene has nothing of the kind {kind!r}")
    return changed


def replace_goal(text: str, goal: str, interest: Sequence[str]) -> str:
    """Return the scene with another ``goal``, an expression such as ``(And (On a b))``."""
    for name, content in (("goal", goal), ("obj_of_interest", "\n".join(interest))):
        begin, end = section(text, name)
        text = f"{text[:begin]}(:{name}\n{content}\n){text[end:]}"
    return text
