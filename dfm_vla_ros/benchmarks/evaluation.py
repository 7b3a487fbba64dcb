"""An evaluation of any benchmark: hand episodes to simulators, keep what they come to, resume."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from dfm_vla_ros.benchmarks import BenchmarkProtocol, EpisodeId, EpisodeOutcome
from dfm_vla_ros.benchmarks.processes import Program, SimulatorPool, policy_about
from dfm_vla_ros.benchmarks.results import EpisodeBook, EpisodeProgress
from dfm_vla_ros.benchmarks.worker import FRAMES
from dfm_vla_ros.errors import BenchmarkError
from dfm_vla_ros.report.content import FilmEncoder
from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.schema import parse, read_yaml

Kind = TypeVar("Kind", bound=Any)


def presets(kind: type[Kind]) -> dict[str, Kind]:
    """Return name -> settings of all presets in the file that ``kind.PRESETS`` names."""
    path = resource_path(kind.PRESETS)
    content = parse(dict[str, dict[str, Any]], read_yaml(path), str(path), BenchmarkError)
    return {
        name: parse(kind, {"name": name, **settings}, name, BenchmarkError)
        for name, settings in content.items()
    }


def find_preset(kind: type[Kind], name: str, **changes: Any) -> Kind:
    """Return a preset with ``changes``; those that are None change nothing.

    A changed preset says so in its name, so that its results are not taken for the preset's.
    """
    found = presets(kind)
    if name not in found:
        raise BenchmarkError(f"there is no preset {name!r}; there are {', '.join(found)}")
    settings = asdict(found[name])
    changed = {key: value for key, value in changes.items() if value not in (None, settings[key])}
    if not changed:
        return found[name]
    words = ", ".join(f"{key} {value}" for key, value in changed.items())
    new = settings | changed | {"name": f"{name} ({words})"}
    return parse(kind, new, name, BenchmarkError)


def read_cameras(pairs: Sequence[str], cameras: Sequence[str]) -> dict[str, str]:
    """Return the policy's name -> the simulator's camera of texts ``NAME=CAMERA``."""
    found = {}
    for text in pairs:
        name, _, camera = text.partition("=")
        if not name or camera not in cameras:
            wanted = " or ".join(f"NAME={camera}" for camera in cameras)
            raise BenchmarkError(f"--camera {text!r}: give {wanted}")
        found[name] = camera
    return found


@dataclass(frozen=True, kw_only=True)
class BenchmarkPlan(ABC):
    """What is evaluated, and how; what an adapter writes.

    Results, logs and ``films`` films go to ``folder``; ``cameras`` maps the policy's names to the
    simulator's.
    """

    protocol: BenchmarkProtocol
    folder: Path
    cameras: Mapping[str, str] = field(default_factory=dict)
    films: int = 0

    @abstractmethod
    def episodes(self) -> list[EpisodeId]:
        """Return all episodes."""

    @abstractmethod
    def groups(self, episodes: Iterable[EpisodeId], workers: int) -> list[list[Any]]:
        """Return the jobs of ``episodes``; those of a group run in order in one process."""

    @abstractmethod
    def film_path(self, job: Any, success: bool) -> Path:
        """Return where the film of an episode goes."""

    def common(self, checkpoint: str, simulator: Mapping[str, Any]) -> dict[str, Any]:
        """Return what all episodes of a book have in common; it refuses others."""
        return {
            "checkpoint": checkpoint,
            "protocol": asdict(self.protocol),
            "cameras": dict(self.cameras),
            "simulator": dict(simulator),
        }

    def settled(self, execute_steps: int) -> Self:
        """Return the plan with the replan interval of a policy, unless it has its own."""
        replan = self.protocol.replan or execute_steps
        return replace(self, protocol=replace(self.protocol, replan=replan))

    def figures(self, episodes: Sequence[EpisodeOutcome]) -> dict[str, Any]:
        """Return figures of this benchmark alone, for the result."""
        return {}


def evaluate(
    plan: BenchmarkPlan,
    program: Program,
    addresses: Sequence[str],
    about: Mapping[str, Any],
    limit_s: float,
    again: bool = False,
    say: Callable[[str], None] = print,
) -> EpisodeBook:
    """Run what is missing of ``plan``, write the result and return all episodes.

    Args:
        plan: what is evaluated.
        program: of the simulator.
        addresses: of policies; as many simulators run.
        about: what the result says besides.
        limit_s: an episode that takes longer is an error [s].
        again: also run what ended in an error.
        say: takes a line.
    """
    policy = policy_about(addresses)
    plan = plan.settled(policy.execute_steps)
    with SimulatorPool(program, addresses, plan.folder / "logs") as pool:
        book = EpisodeBook(plan.folder, plan.common(policy.checkpoint_hash, pool.about))
        episodes = plan.episodes()
        missing = book.missing(episodes, again)
        progress = EpisodeProgress(len(episodes), len(episodes) - len(missing))
        groups = plan.groups(missing, len(addresses))
        for job, episode in pool.run(groups, limit_s):
            book.keep(episode)
            if job.keep:
                make_film(plan, job, episode)
            say(progress.add(episode))
    if missing:
        say(f"{progress.per_hour():.0f} episodes an hour with {len(addresses)} simulators")
    say(f"result: {book.write({**plan.figures(book.episodes), **about})}")
    return book


def make_film(plan: BenchmarkPlan, job: Any, episode: EpisodeOutcome) -> None:
    """Turn the frames (F, C, H, W, 3) that an episode left into a film, and delete them."""
    frames, protocol = Path(job.keep) / FRAMES, plan.protocol
    if not frames.exists():
        return
    encoder = FilmEncoder(protocol.RATE_HZ / (1 if protocol.renders_always else protocol.replan))
    for frame in np.load(frames):
        encoder.add({str(number): image for number, image in enumerate(frame)})
    film = encoder.finish()
    if film is not None and not episode.error:
        plan.film_path(job, episode.success).write_bytes(film.data)
    frames.unlink()
