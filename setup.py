"""Plain pip: the library and ``dfm-vla`` for machines without ROS. colcon uses CMakeLists.txt."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
DATA_FOLDERS = ("action", "checkpoints", "config", "msg", "srv", "urdf")


class BuildWithData(build_py):
    """Copy the data folders into the package, where ``resources.resource_path`` looks."""

    def run(self) -> None:
        """Build the modules, then add the data."""
        super().run()
        for folder in DATA_FOLDERS:
            if (ROOT / folder).is_dir():
                target = Path(self.build_lib) / "dfm_vla_ros" / "share" / folder
                shutil.copytree(ROOT / folder, target, dirs_exist_ok=True)


def version() -> str:
    """Return the version that the package states."""
    lines = (ROOT / "dfm_vla_ros" / "__init__.py").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("__version__"))
    return line.split('"')[1]


def requirements() -> list[str]:
    """Return what the library needs; requirements/*.txt pin it for development."""
    lines = (ROOT / "requirements" / "library.in").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


setup(
    name="dfm_vla_ros",
    version=version(),
    description="Discrete flow matching over action tokens for a two-armed ROS 2 robot",
    author="dfm_vla_ros maintainers",
    author_email="maintainers@users.noreply.example",
    license="Apache-2.0",
    packages=find_packages(include=["dfm_vla_ros", "dfm_vla_ros.*"]),
    package_data={"dfm_vla_ros.report": ["page/*", "page/vendor/*"]},
    python_requires=">=3.11",
    install_requires=requirements(),
    extras_require={"rerun": ["rerun-sdk>=0.23"]},
    entry_points={"console_scripts": ["dfm-vla = dfm_vla_ros.cli:main"]},
    cmdclass={"build_py": BuildWithData},
    zip_safe=False,
)
