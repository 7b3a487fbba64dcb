from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dfm_vla_ros import resources
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.resources import resource_path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pretend that the package lies in an empty site-packages."""
    package = tmp_path / "site-packages" / "dfm_vla_ros"
    package.mkdir(parents=True)
    monkeypatch.setattr(resources, "PACKAGE", package)
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    return package


def test_that_the_source_tree_serves_its_own_files() -> None:
    assert resource_path("package.xml") == Path(__file__).parents[1] / "package.xml"


def test_that_a_wheel_serves_its_package_data(installed: Path) -> None:
    (installed / "share" / "urdf").mkdir(parents=True)
    assert resource_path("urdf") == installed / "share" / "urdf"


def test_that_a_workspace_serves_its_share_folder(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "install" / "share" / "dfm_vla_ros" / "urdf").mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/elsewhere:{tmp_path / 'install'}")
    assert resource_path("urdf") == tmp_path / "install" / "share" / "dfm_vla_ros" / "urdf"


def test_that_a_stranger_beside_an_installed_package_is_not_taken(installed: Path) -> None:
    (installed.parent / "config").mkdir()
    with pytest.raises(DfmVlaError):
        resource_path("config")


def test_that_the_error_names_the_file_and_the_folders_searched(installed: Path) -> None:
    with pytest.raises(DfmVlaError) as raised:
        resource_path("urdf/none.xacro")
    assert str(raised.value) == (
        "'urdf/none.xacro' is not shipped with this installation; searched "
        f"{installed}/share/urdf/none.xacro. "
        "Reinstall the package, or source the workspace that it was built in."
    )


def test_that_the_repair_replaces_the_build_machine_s_include_folders(tmp_path: Path) -> None:
    cmake = tmp_path / "cmake"
    cmake.mkdir()
    script = Path(__file__).parents[1] / "scripts" / "repair_include_paths.py"
    shutil.copy(script, tmp_path / "repair.py")
    python = "/opt/python/cp311-cp311/include/python3.11"
    numpy = "/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include"
    code = f"import repair; print(repair.repaired('DIRS \"{python};{numpy}\"'))"
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    folders = shown.stdout.strip().removeprefix('DIRS "').removesuffix('"').split(";")
    assert (Path(folders[0]) / "Python.h").is_file()
    assert (Path(folders[1]) / "numpy" / "arrayobject.h").is_file()
