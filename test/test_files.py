"""Files are whole or not there; a book goes on where a kill cut it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfm_vla_ros.files import Book, BookError, remove_partials, replacing, write_json

COMMON = {"checkpoint": "c0ffee", "seed": 7}


def test_that_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError("killed")
    assert path.read_text() == '{\n "a": 1\n}\n'
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]


def test_that_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".result.json.partial").touch()
    remove_partials(tmp_path)
    assert not any(tmp_path.iterdir())


def test_that_a_device_is_written_directly() -> None:
    write_json(Path("/dev/null"), {})


def test_that_a_book_goes_on_and_drops_a_line_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "book.jsonl"
    Book(path, COMMON).add({"job": ["a", 1]})
    with path.open("a") as file:
        file.write('{"job": ["a"')
    before = path.read_text()
    (tmp_path / "the old file").hardlink_to(path)
    again = Book(path, COMMON)
    assert again.rows == [{"job": ["a", 1]}]
    # It was replaced, not emptied and written again: a kill in between would have lost all.
    assert (tmp_path / "the old file").read_text() == before
    again.add({"job": ["b", 2]})
    assert len(Book(path, COMMON).rows) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([json.dumps({**COMMON, "seed": 8})], "holds results with seed 8, not 7: choose"),
        ([json.dumps(COMMON), "no JSON"], "line 2: .*remove the line"),
        (["[]"], "line 1 is '\\[\\]', no object"),
    ],
)
def test_that_another_or_a_damaged_book_is_refused(
    lines: list[str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "book.jsonl"
    path.write_text("\n".join([*lines, ""]))
    with pytest.raises(BookError, match=message):
        Book(path, COMMON)
