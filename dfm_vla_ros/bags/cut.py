"""How episodes are cut from a bag, and what is cut."""

from __future__ import annotations

from dataclasses import dataclass

from dfm_vla_ros.data.episodes import Episode


@dataclass(frozen=True)
class EpisodeSettings:
    """How episodes are cut.

    Attributes:
        period_s: control period of the data set [s].
        split: one of ``splitting.SPLITS``.
        instruction: instead of what the bag says.
        task: name of the task; empty: as the bag says, or made of the instruction.
        shortest_s: shorter parts are left out [s].
        success: of episodes of which nothing tells.
    """

    period_s: float = 0.1
    split: str = "auto"
    instruction: str = ""
    task: str = ""
    shortest_s: float = 1.0
    success: bool = False


@dataclass(frozen=True)
class Cut:
    """A part of a bag that ended.

    Attributes:
        key: of the episode in the data set.
        from_ns: receipt of the first frame [ns].
        to_ns: of the last [ns].
        frames: how many.
        instruction: what was said.
        success: whether the task was done; None if nothing tells.
        episode: the frames, valid until the next cut; None if they are known or left out.
        why: why there is no episode; empty if there is, or if it is known.
    """

    key: str
    from_ns: int
    to_ns: int
    frames: int
    instruction: str
    success: bool | None
    episode: Episode | None = None
    why: str = ""
