"""LIBERO-PRO's lists of other words, places, objects and goals, read from a copy of its files.

They are the files ``ood_*.yaml`` in ``libero_ood`` of github.com/Zxy-MLlab/LIBERO-PRO: suite ->
task -> alternatives. None of them is shipped here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dfm_vla_ros.benchmarks.libero import variation
from dfm_vla_ros.benchmarks.libero.suites import Task
from dfm_vla_ros.benchmarks.libero.variation import Variation
from dfm_vla_ros.errors import LiberoError, SceneError

Change = tuple[str | None, str | None]
"""Another sentence, another scene's text; None: as it was."""
SOURCE = "libero_ood of github.com/Zxy-MLlab/LIBERO-PRO"


def read_definitions(folder: Path | None, kind: str) -> dict[str, Any]:
    """Return suite -> task -> alternatives.

    Raises:
        LiberoError: no folder is given, or the file is missing or of another form.
    """
    if kind not in KINDS:
        raise LiberoError(f"there are no definitions {kind!r}; there are {', '.join(KINDS)}")
    if folder is None:
        raise LiberoError(f"this variation needs definitions: give --definitions with {SOURCE}")
    path = folder / f"ood_{kind}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise LiberoError(f"{path} cannot be read ({error}); copy {SOURCE}") from error
    if not isinstance(content, dict):
        raise LiberoError(f"{path} maps no suites to tasks; copy {SOURCE}")
    return content


def change(definitions: Mapping[str, Any], kind: str, task: Task, choice: int) -> Change | None:
    """Return what the ``choice``-th alternative makes of a task; None if it has none.

    Raises:
        LiberoError: the alternatives are of another form, or do not fit the scene.
    """
    found = (definitions.get(task.suite) or {}).get(task.name.lower()) or (
        definitions.get(task.suite) or {}
    ).get(task.name)
    try:
        alternatives = _flat(found)
        if choice >= len(alternatives):
            return None
        return KINDS[kind](task.scene.read_text(encoding="utf-8"), alternatives[choice])
    except (TypeError, KeyError, AttributeError) as error:
        raise LiberoError(
            f"the definitions of {task.name} are of another form: {error}"
        ) from error


def changed_tasks(
    variation: Variation,
    folder: Path | None,
    tasks: Sequence[Task],
    out: Path,
    say: Callable[[str], None] = print,
) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the scenes, written to ``out``, and the sentences of the tasks that have others.

    Tasks without such an alternative, or whose scene it does not fit, are said and left out.

    Raises:
        LiberoError: the definitions cannot be read.
    """
    kind = variation.definitions
    definitions = read_definitions(folder, kind)
    scenes_of: dict[str, Path] = {}
    words: dict[str, str] = {}
    for task in tasks:
        try:
            found = change(definitions, kind, task, variation.choice)
        except SceneError as error:
            found = None
            say(f"{task.name}: {error}")
        if found is None:
            say(f"{task.suite} {task.name} is left out: no alternative {variation.choice}")
            continue
        sentence, text = found
        if sentence is not None:
            words[task.name] = sentence
        if text is not None:
            out.mkdir(parents=True, exist_ok=True)
            scenes_of[task.name] = (out / f"{task.suite}_{task.name}.bddl").resolve()
            scenes_of[task.name].write_text(text, encoding="utf-8")
    return scenes_of, words


def _flat(found: Any) -> list[Any]:
    """Return the alternatives: a list as it is, a mapping as pairs with each of its values."""
    if not isinstance(found, Mapping):
        return list(found or [])
    pairs = []
    for key, values in found.items():
        listed = values if isinstance(values, list) else [values]
        pairs += [(key, value) for value in listed]
    return pairs


def _words(text: str, alternative: str) -> Change:
    return alternative, None


def _places(text: str, pair: tuple[str, str]) -> Change:
    return None, variation.swap_places(text, *pair)


def _objects(text: str, pair: tuple[str, str]) -> Change:
    return None, variation.replace_kind(text, *pair)


def _goal(text: str, pair: tuple[str, Mapping[str, Any]]) -> Change:
    sentence, goal = pair
    return sentence, variation.replace_goal(text, goal["goal"], goal["obj_of_interest"])


KINDS: dict[str, Callable[[str, Any], Change]] = {
    "language": _words,
    "spatial_relation": _places,
    "object": _objects,
    "task": _goal,
}
"""Kind, as in the file's name -> what its alternatives change."""
