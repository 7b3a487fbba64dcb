"""Suites, stored states and assets, read from files as hf-libero has them."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.benchmarks.libero import read_states, suites
from dfm_vla_ros.benchmarks.libero.suites import (
    SUITES,
    LiberoInstallation,
    choose_tasks,
    find_installation,
    instruction_of,
    read_suites,
)
from dfm_vla_ros.errors import BenchmarkError


def made_up(folder: Path) -> LiberoInstallation:
    """Return an installation of one task in each suite."""
    found = LiberoInstallation(folder / "bin/python", folder / "libero", folder / "assets")
    names = {suite: [f"touch_the_{suite}"] for suite in SUITES}
    found.task_map.parent.mkdir(parents=True)
    found.task_map.write_text(f"import nothing_there\nlibero_task_map = {names!r}\n")
    return found


def archive(path: Path, content: object) -> Path:
    """Write ``content`` as torch.save would, as far as the reader looks."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
        file.writestr("archive/version", "3")
    return path


def test_that_the_sentence_is_the_files_name_without_its_scene() -> None:
    assert instruction_of("put_the_bowl_on_the_plate") == "put the bowl on the plate"
    assert instruction_of("KITCHEN_SCENE10_close_the_drawer") == "close the drawer"
    assert instruction_of("LIVING_ROOM_SCENE2_put_both_in") == "put both in"


def test_that_tasks_come_in_the_order_of_the_list_and_nothing_is_imported(tmp_path: Path) -> None:
    assert list(read_suites(made_up(tmp_path))) == list(SUITES)
    (task,) = choose_tasks(made_up(tmp_path / "other"), ["libero_goal"])
    assert task.instruction == "touch the libero goal"
    assert (
        task.states
        == tmp_path / "other/libero/init_files/libero_goal/touch_the_libero_goal.pruned_init"
    )


@pytest.mark.parametrize("suite, indices", [("libero_gaol", None), ("libero_goal", [1])])
def test_that_an_unknown_suite_or_task_is_named(
    tmp_path: Path, suite: str, indices: list[int] | None
) -> None:
    with pytest.raises(BenchmarkError, match=r"libero_gaol|0\.\.0, not 1"):
        choose_tasks(made_up(tmp_path), [suite], indices)


def test_that_a_list_without_tasks_is_refused(tmp_path: Path) -> None:
    installation = made_up(tmp_path)
    installation.task_map.write_text("libero_task_map = make()\n")
    with pytest.raises(BenchmarkError, match="reinstall hf-libero"):
        read_suites(installation)


def test_that_stored_states_are_read_as_they_were_written(tmp_path: Path) -> None:
    states = np.random.default_rng(0).normal(size=(50, 92))
    assert np.array_equal(read_states(archive(tmp_path / "a.pruned_init", states)), states)


class Evil:
    """Would run a command when unpickled."""

    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit('ran')",))


@pytest.mark.parametrize(
    "content",
    [Evil(), [1.0], np.zeros(3), np.zeros((2, 3), dtype=np.float32), np.full((1, 2), np.nan)],
)
def test_that_anything_but_finite_states_is_refused_and_not_run(
    tmp_path: Path, content: object
) -> None:
    with pytest.raises(BenchmarkError, match="reinstall"):
        read_states(archive(tmp_path / "a.pruned_init", content))


def test_that_a_damaged_file_of_states_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pruned_init"
    path.write_bytes(b"no zip")
    with pytest.raises(BenchmarkError, match="holds no stored states"):
        read_states(path)
    with pytest.raises(BenchmarkError, match="cannot be read"):
        read_states(tmp_path / "missing")


def test_that_the_list_names_585_assets_by_gits_hash(tmp_path: Path) -> None:
    found = suites.asset_hashes()
    assert len(found) == 585
    path = tmp_path / "hello"
    path.write_bytes(b"hello\n")
    assert suites.blob_hash(path) == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_that_missing_and_different_assets_are_told_apart(tmp_path: Path) -> None:
    first, second, *_ = suites.asset_hashes()
    placeholder = tmp_path / second
    placeholder.parent.mkdir(parents=True)
    placeholder.write_bytes(b"")
    report = suites.check_assets(tmp_path)
    assert report.different == (second,)
    assert first in report.missing and len(report.missing) == 584
    assert "577 more" not in report.remedy and any("different" in one for one in report.lines())


def test_that_missing_assets_are_an_error_that_says_where_to_get_them(tmp_path: Path) -> None:
    installation = LiberoInstallation(tmp_path, tmp_path, tmp_path / "assets")
    with pytest.raises(BenchmarkError) as raised:
        suites.require_assets(installation)
    message = str(raised.value)
    assert "lacks 585 of 585 assets" in message and "577 more" in message
    assert "Nothing is fetched by itself" in message and "LIBERO_ASSETS" in message
    assert "github.com/Lifelong-Robot-Learning/LIBERO" in message


def test_that_a_missing_environment_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="make libero-env"):
        find_installation({"LIBERO_PYTHON": str(tmp_path / "python")})
    (tmp_path / "python").touch()
    with pytest.raises(BenchmarkError, match="lacks hf-libero"):
        find_installation({"LIBERO_PYTHON": str(tmp_path / "python")})


def test_that_an_environment_is_found_with_its_assets(tmp_path: Path) -> None:
    python = tmp_path / "bin/python"
    package = tmp_path / "lib/python3.11/site-packages/libero/libero"
    python.parent.mkdir()
    python.touch()
    package.mkdir(parents=True)
    found = find_installation({"LIBERO_PYTHON": str(python)})
    assert (found.package, found.assets) == (package, package / "assets")
    other = find_installation({"LIBERO_PYTHON": str(python), "LIBERO_ASSETS": "/elsewhere"})
    assert other.assets == Path("/elsewhere")
