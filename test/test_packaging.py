from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PREFIX = Path(sys.prefix)
NODES = {"executor_node", "policy_node", "sim_node"}
SHOW = """
import dfm_vla_ros, dfm_vla_ros.msg, dfm_vla_ros.srv, dfm_vla_ros.action
from rclpy.type_support import check_for_type_support
check_for_type_support(dfm_vla_ros.msg.ActionChunk)
print(dfm_vla_ros.__file__)
print(dfm_vla_ros.msg.__file__)
"""


def run(command: list[str | Path], cwd: Path, **environment: str) -> str:
    """Return what a command prints; an empty value removes a variable."""
    merged = {key: text for key, text in {**os.environ, **environment}.items() if text}
    done = subprocess.run(command, cwd=cwd, env=merged, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


def colcon_build(workspace: Path, install: str, *options: str) -> Path:
    """Build the checkout; both kinds of install share what is compiled."""
    # ... but not the staged Python package, which is a folder in one and a link in the other.
    shutil.rmtree(workspace / "build/dfm_vla_ros/ament_cmake_python", ignore_errors=True)
    command = ["colcon", "--log-base", "log", "build", "--base-paths", ROOT, *options]
    command += ["--build-base", "build", "--install-base", install, "--cmake-args"]
    command += ["-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={sys.executable}"]
    path = f"{PREFIX / 'bin'}{os.pathsep}{os.environ['PATH']}"
    prefix = str(PREFIX)
    run(command, workspace, PATH=path, AMENT_PREFIX_PATH=prefix, CMAKE_PREFIX_PATH=prefix)
    return workspace / install / "dfm_vla_ros"


def imported_from(install: Path) -> list[Path]:
    """Return the files of the package and its messages in a sourced workspace."""
    sourced = '. "$0/share/dfm_vla_ros/package.sh" && exec "$1" -c "$2"'
    command = ["sh", "-c", sourced, install, sys.executable, SHOW]
    output = run(
        command, install, COLCON_CURRENT_PREFIX=str(install), _ROS_WHEELS_BOOTSTRAP_COMPLETE=""
    )
    return [Path(line) for line in output.split()]


def assert_complete(install: Path) -> None:
    """Assert that an install space holds all modules, the executables and the shared files."""
    assert all(path.is_relative_to(install) for path in imported_from(install))
    (package,) = install.glob("lib/python3*/site-packages/dfm_vla_ros")
    assert (package / "robot" / "joints.py").is_file()
    executables = (install / "lib" / "dfm_vla_ros").iterdir()
    assert {path.name for path in executables if os.access(path, os.X_OK)} >= NODES
    assert (install / "share" / "dfm_vla_ros" / "urdf").is_dir()


def test_that_the_source_tree_has_the_package_and_its_messages(tmp_path: Path) -> None:
    package, messages = (
        Path(line) for line in run([sys.executable, "-c", SHOW], tmp_path).split()
    )
    assert package == ROOT / "dfm_vla_ros" / "__init__.py"
    assert messages.is_relative_to(PREFIX)


@pytest.mark.timeout(600)
def test_that_a_plain_build_has_the_package_and_its_messages(workspace: Path) -> None:
    install = colcon_build(workspace, "install")
    assert_complete(install)
    (module,) = install.glob("lib/python3*/site-packages/dfm_vla_ros/errors.py")
    assert not module.is_symlink()


@pytest.mark.timeout(600)
def test_that_a_symlink_build_has_the_package_and_its_messages(workspace: Path) -> None:
    install = colcon_build(workspace, "install_symlink", "--symlink-install")
    assert_complete(install)
    (module,) = install.glob("lib/python3*/site-packages/dfm_vla_ros/errors.py")
    assert module.resolve() == ROOT / "dfm_vla_ros" / "errors.py"


@pytest.fixture(scope="module")
def without_ros(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that pip installed the package into; it sees numpy, but not rclpy."""
    folder = tmp_path_factory.mktemp("pip")
    run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], folder)
    python = folder / "venv" / "bin" / "python"
    site = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder)
    (Path(site.strip()) / "libraries.pth").write_text(str(libraries(folder)))
    # Offline: with the build tools of this environment.
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run([*wheel, "--wheel-dir", folder, source_copy(folder)], folder)
    run([*pip, *folder.glob("*.whl")], folder)
    return folder


def libraries(folder: Path) -> Path:
    """Return a folder that links what the library needs of this environment, nothing of ROS."""
    links = folder / "libraries"
    links.mkdir()
    site = Path(sysconfig.get_path("purelib"))
    for name in ("msgpack", "numpy", "numpy.libs", "scipy", "scipy.libs", "yaml"):
        (links / name).symlink_to(site / name)
    return links


def source_copy(folder: Path) -> Path:
    """Copy what git tracks or would track: pip writes build/ beside setup.py."""
    listed = run(["git", "ls-files", "-co", "--exclude-standard"], ROOT).splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith("test/"):
            target = folder / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    return folder / "source"


def test_that_pip_gives_the_command_line_without_ros(without_ros: Path) -> None:
    command = without_ros / "venv" / "bin" / "dfm-vla"
    assert run([command, "--version"], without_ros, PYTHONPATH="").strip() == "0.1.0"


def test_that_pip_installs_every_module_and_the_data(without_ros: Path) -> None:
    (package,) = without_ros.glob("venv/lib/python3*/site-packages/dfm_vla_ros")
    source = without_ros / "source" / "dfm_vla_ros"
    modules = {path.relative_to(source) for path in source.rglob("*.py")}
    assert {path.relative_to(package) for path in package.rglob("*.py")} == modules
    assert (package / "report" / "page" / "vendor" / "uPlot.iife.min.js").is_file()
    find = "from dfm_vla_ros.resources import resource_path as r; print(r('urdf'))"
    found = run([without_ros / "venv" / "bin" / "python", "-c", find], without_ros)
    assert Path(found.strip()) == package / "share" / "urdf"
