"""The sentences of each task: the standard one, other phrasings of it, and held-out ones."""

from __future__ import annotations

from dataclasses import dataclass

from dfm_vla_ros.sim.draws import draw
from dfm_vla_ros.sim.errors import UnknownSetting

STANDARD = "standard"
KINDS: tuple[str, ...] = (STANDARD, "train", "held_out")
"""Which phrasings are drawn from; ``held_out`` is for evaluation alone."""


@dataclass(frozen=True)
class Phrasings:
    """Ways to say one task, eight words at most: longer ones are cut by short tokenizers.

    Attributes:
        train: for demonstrations; the first is the standard sentence.
        held_out: never in a demonstration. The first ones have words of ``train`` alone, in
            another order; the last has words that no demonstration has.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def standard(self) -> str:
        """The task's sentence."""
        return self.train[0]

    def of(self, kind: str) -> tuple[str, ...]:
        """Return the sentences of a kind; raises UnknownSetting for an unknown one."""
        if kind not in KINDS:
            raise UnknownSetting(f"unknown phrasing {kind!r}; there are {', '.join(KINDS)}")
        return self.train[:1] if kind == STANDARD else getattr(self, kind)


PHRASINGS: dict[str, Phrasings] = {
    "pot_lift": Phrasings(
        train=(
            "lift the pot with both hands",
            "raise the pot with both hands",
            "lift the pot by its handles",
            "pick up the pot with two hands",
            "use both hands to lift the pot",
        ),
        held_out=(
            "raise the pot by its handles",
            "use two hands to pick up the pot",
            "hold the kettle high with both arms",
        ),
    ),
    "place_veg": Phrasings(
        train=(
            "put the vegetable in the pot",
            "place the vegetable in the pot",
            "drop the vegetable into the pot",
            "move the vegetable into the pot",
            "put the vegetable inside the pot",
        ),
        held_out=(
            "put the vegetable into the pot",
            "drop the vegetable in the pot",
            "throw the veggie inside that pot",
        ),
    ),
    "place_block": Phrasings(
        train=(
            "place the block on the plate",
            "put the block on the plate",
            "set the red block on the plate",
            "move the block onto the plate",
            "place the block on the blue plate",
        ),
        held_out=(
            "put the red block onto the blue plate",
            "set the block on the plate",
            "bring this cube over to the plate",
        ),
    ),
}
"""Task -> its sentences."""


def sentence(task: str, kind: str, seed: int) -> str:
    """Return the sentence of a task for the episode with ``seed``, drawn from those of a kind.

    Raises:
        UnknownSetting: there is no such kind.
    """
    sentences = PHRASINGS[task].of(kind)
    return sentences[int(draw(task, seed, "phrasing").integers(len(sentences)))]
