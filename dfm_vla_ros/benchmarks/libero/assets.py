"""Whether LIBERO's meshes and textures are there and are the published ones.

They are not in ``hf-libero``: it fetches them from a hub at first use. Here nothing is fetched;
what is missing is listed, with where to get it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from dfm_vla_ros.benchmarks.libero.suites import ASSETS, Installation
from dfm_vla_ros.errors import LiberoError
from dfm_vla_ros.resources import resource_path

LIST = "config/benchmarks/libero/assets.txt"
SOURCE = (
    "the folder libero/libero/assets of github.com/Lifelong-Robot-Learning/LIBERO (MIT), or the "
    "data set lerobot/libero-assets of the hub"
)
SHOWN = 8


@dataclass(frozen=True)
class AssetReport:
    """How a folder compares with the list of published files.

    Attributes:
        folder: that was looked at.
        files: on the list.
        missing: names that are not there.
        different: names whose content is another, such as placeholders.
    """

    folder: Path
    files: int
    missing: tuple[str, ...]
    different: tuple[str, ...]

    @property
    def published(self) -> bool:
        """Whether all files are there and are the published ones."""
        return not self.missing and not self.different

    def record(self) -> dict[str, object]:
        """Return what a result says about its assets."""
        return {"files": self.files, "missing": self.missing, "different": self.different}


def check_assets(folder: Path) -> AssetReport:
    """Compare ``folder`` with the list, file by file (0.2 GB are hashed: some seconds)."""
    expected = read_list()
    missing, different = [], []
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file():
            missing.append(name)
        elif blob_hash(path) != digest:
            different.append(name)
    return AssetReport(folder, len(expected), tuple(missing), tuple(different))


def require_assets(installation: Installation) -> AssetReport:
    """Return the report on an installation's assets.

    Raises:
        LiberoError: files are missing; the message says which and where to get them.
    """
    report = check_assets(installation.assets)
    if report.missing:
        raise LiberoError(missing_message(report))
    return report


def missing_message(report: AssetReport) -> str:
    """Return which files are missing and how to get them."""
    names = ", ".join(report.missing[:SHOWN])
    more = len(report.missing) - SHOWN
    listed = f"{names} and {more} more" if more > 0 else names
    return (
        f"{report.folder} lacks {len(report.missing)} of {report.files} assets: {listed}. Nothing "
        f"is fetched by itself: copy {SOURCE} there, or set {ASSETS} to where it is; "
        "dfm-vla libero assets lists every file"
    )


def read_list() -> dict[str, str]:
    """Return file name -> hash, of all published assets.

    Raises:
        LiberoError: the list is damaged.
    """
    lines = resource_path(LIST).read_text(encoding="utf-8").splitlines()
    rows = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    if any(len(row) != 2 or len(row[0]) != 40 for row in rows):
        raise LiberoError(f"{LIST} is damaged: a line is no hash and name; restore it")
    return {name: digest for digest, name in rows}


def blob_hash(path: Path) -> str:
    """Return git's hash of a file: of its size and its content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
