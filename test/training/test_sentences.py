"""Which sentence a checkpoint names for a task that was told in several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from demonstrations import episode

from dfm_vla_ros.data.dataset import Dataset
from dfm_vla_ros.data.format import DatasetSpec
from dfm_vla_ros.data.writer import DatasetWriter
from dfm_vla_ros.training.frames import list_sources, make_frames


def test_that_a_task_is_named_by_the_sentence_it_was_told_in_most_often(tmp_path: Path) -> None:
    told = ["carry the pot", "lift the pot", "raise the pot", "lift the pot"]
    made = [replace(episode(seed), instruction=said) for seed, said in enumerate(told)]
    with DatasetWriter(tmp_path / "told", DatasetSpec.of(made[0]), "image") as writer:
        for each in made:
            writer.add(each, f"{each.task}_{each.seed}")
    frames = make_frames(list_sources([Dataset.open(tmp_path / "told")], 0), horizon=4)
    assert list(frames.tasks.values()) == ["lift the pot"]
    assert set(frames.sentences) == set(told)
