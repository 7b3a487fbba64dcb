"""Bags into a data set, and the account of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from dfm_vla_ros.bags.episodes import BagEpisodes, Cut, EpisodeSettings
from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.topics import TopicChoice, find_topics
from dfm_vla_ros.data.format import INFO, DatasetSpec, read_info
from dfm_vla_ros.data.writer import DatasetWriter
from dfm_vla_ros.errors import BagError
from dfm_vla_ros.observing.sources import ObserverSettings

Say = Callable[[str], None]


@dataclass
class BagAccount:
    """What became of one bag.

    Attributes:
        added, known: episodes that are new in the data set, or were there already.
        left_out: parts that make no episode.
        frames: of the episodes, new and known.
        gaps: times without usable frames within episodes.
        refused: why nothing was read; empty if something was.
    """

    path: Path
    added: int = 0
    known: int = 0
    left_out: int = 0
    frames: int = 0
    gaps: int = 0
    faults: int = 0
    refused: str = ""


@dataclass
class Converter:
    """Adds the episodes of bags to one data set; a context manager.

    An episode is added whole or not at all, under a key that its first frame gives. Killed at any
    moment and started again it adds what is missing.

    Attributes:
        out: folder of the data set; made when the first episode is there, or continued.
        storage: of images, see ``DatasetWriter``.
        topics: what is known of the bags' topics.
        settings: how episodes are cut.
        kept: what an observation must keep.
        say: gets one line at a time.
    """

    out: Path
    storage: str = "video"
    topics: TopicChoice = field(default_factory=TopicChoice)
    settings: EpisodeSettings = field(default_factory=EpisodeSettings)
    kept: ObserverSettings = field(default_factory=ObserverSettings)
    say: Say = print

    def __post_init__(self) -> None:
        """Open the data set if there is one."""
        self._writer: DatasetWriter | None = None
        self.out.mkdir(parents=True, exist_ok=True)
        if (self.out / INFO).exists():
            there = read_info(self.out).spec
            spec = DatasetSpec(
                there.cameras,
                self.settings.period_s,
                pose_names=there.pose_names,
                robot_type=there.robot_type,
            )
            self._writer = DatasetWriter(self.out, spec, self.storage)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the data set."""
        if self._writer is not None:
            self._writer.close()

    def convert(self, path: Path) -> BagAccount:
        """Add what is in a bag; what is wrong with it is said, and why if nothing was read."""
        account = BagAccount(path)
        try:
            with Bag(path) as bag:
                try:
                    self._convert(bag, account)
                finally:
                    for fault in bag.faults:
                        self.say(f"  fault {fault.text(bag.start_ns)}")
                    account.faults = len(bag.faults)
        except BagError as error:
            account.refused = str(error)
            self.say(f"{path}: nothing more is read: {error}")
        return account

    def _convert(self, bag: Bag, account: BagAccount) -> None:
        topics = find_topics(bag, self.topics, self.kept)
        episodes = BagEpisodes(bag, topics, self.settings, self.out, self._knows)
        self.say(f"{bag.path}: split: {episodes.split}, third view: {topics.trigger}")
        try:
            for cut in episodes:
                self._take(bag, cut, account)
        finally:
            for gap in episodes.gaps:
                self.say(f"  gap {gap.text(bag.start_ns)}")
            account.gaps = len(episodes.gaps)
        if not account.added + account.known + account.left_out:
            raise BagError(f"{bag.path} holds no frame: {episodes.nothing()}")

    def _knows(self, key: str) -> bool:
        return self._writer is not None and key in self._writer

    def _take(self, bag: Bag, cut: Cut, account: BagAccount) -> None:
        """Add a part's episode, and say what became of it."""
        outcome = {None: "", True: ", success", False: ", no success"}[cut.success]
        if cut.why:
            account.left_out += 1
            what = f"left out: {cut.why}"
        elif cut.episode is None:
            account.known += 1
            what = "there already"
        else:
            account.added += 1
            self._open(DatasetSpec.of(cut.episode)).add(cut.episode, cut.key)
            what = "added"
        if not cut.why:
            account.frames += cut.frames
        from_s, to_s = ((at - bag.start_ns) * 1e-9 for at in (cut.from_ns, cut.to_ns))
        self.say(
            f"  {from_s:8.2f} s to {to_s:8.2f} s  {cut.frames:5d} frames  {cut.instruction!r}"
            f"{outcome}  {what}"
        )

    def _open(self, spec: DatasetSpec) -> DatasetWriter:
        if self._writer is None:
            self._writer = DatasetWriter(self.out, spec, self.storage)
        return self._writer


def table(accounts: list[BagAccount]) -> str:
    """Return the summary of all bags."""
    head = ("bag", "added", "known", "left out", "frames", "gaps", "faults")
    rows = [
        (str(a.path), a.added, a.known, a.left_out, a.frames, a.gaps, a.faults) for a in accounts
    ]
    total = ("in all", *(sum(column) for column in zip(*(row[1:] for row in rows), strict=True)))
    lines = [head, *rows, total] if len(rows) > 1 else [head, *rows]
    width = max(len(line[0]) for line in lines)
    return "\n".join(
        f"{line[0]:{width}}" + "".join(f"  {cell!s:>8}" for cell in line[1:]) for line in lines
    )
