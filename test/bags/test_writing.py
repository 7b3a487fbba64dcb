"""An earlier bag makes room for the next one; anything else stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfm_vla_ros.bags.writing import BagWriter, NoBag, remove_bag


def test_that_an_earlier_bag_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    BagWriter(folder).close()
    remove_bag(folder)
    assert not folder.exists()


def test_that_an_empty_folder_or_none_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    remove_bag(tmp_path / "bag")
    remove_bag(tmp_path / "bag")
    assert not (tmp_path / "bag").exists()


@pytest.mark.parametrize("name", ["thesis.txt", "metadata.yaml/deep"])
def test_that_anything_else_is_kept_whole_and_named(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "bag"
    BagWriter(folder).close()
    other = folder / name
    if "/" in name:
        (folder / "metadata.yaml").unlink()
        other.parent.mkdir()
    other.write_text("years of work")
    before = sorted(folder.rglob("*"))
    with pytest.raises(NoBag, match=rf"{name.partition('/')[0]} .*choose another --out"):
        remove_bag(folder)
    assert sorted(folder.rglob("*")) == before


def test_that_a_file_or_a_link_of_that_name_is_kept(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "bag").symlink_to(tmp_path / "kept")
    with pytest.raises(NoBag, match="is no bag"):
        remove_bag(tmp_path / "bag")
    assert (tmp_path / "kept").is_dir()
