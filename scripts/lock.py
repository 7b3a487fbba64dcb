"""Resolve requirements/*.in for Python 3.11 and 3.12 and write the pinned requirements/*.txt.

Usage: ``python3 scripts/lock.py``, with python3.11 and python3.12 on the PATH.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "requirements"
LAYERS = ("library", "ros", "dev")
PYTHONS = ("3.11", "3.12")
# torch pins what it needs of these exactly, and needs other ones in a build for another device.
WITH_TORCH = ("torch", "nvidia-", "cuda-", "triton")


def resolve(python: str, layers: tuple[str, ...], pins: dict[str, str]) -> dict[str, str]:
    """Return name -> version of everything that the layers need under this Python."""
    with tempfile.TemporaryDirectory() as scratch:
        environment, constraints = Path(scratch) / "venv", Path(scratch) / "pins.txt"
        constraints.write_text("".join(f"{name}=={pin}\n" for name, pin in pins.items()))
        subprocess.run([f"python{python}", "-m", "venv", environment], check=True)
        command = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", "--report", Path(scratch) / "report.json"]
        command += ["-c", constraints]
        for layer in layers:
            command += ["-r", FOLDER / f"{layer}.in"]
        subprocess.run(command, check=True)
        report = json.loads((Path(scratch) / "report.json").read_text())
    found = [item["metadata"] for item in report["install"]]
    pinned = {entry["name"].lower().replace("_", "-"): entry["version"] for entry in found}
    return {name: pin for name, pin in pinned.items() if not name.startswith(WITH_TORCH)}


def lock_text(layer: str, versions: dict[str, dict[str, str]]) -> str:
    """Return a lock file; a package that only some Pythons need or share gets a marker."""
    lines = [f"# Locked from {layer}.in by: python3 scripts/lock.py"]
    for name in sorted({name for pins in versions.values() for name in pins}):
        pins = {python: versions[python].get(name) for python in PYTHONS}
        if len(set(pins.values())) == 1:
            lines.append(f"{name}=={pins[PYTHONS[0]]}")
            continue
        for python, pin in pins.items():
            if pin is not None:
                lines.append(f'{name}=={pin} ; python_version == "{python}"')
    return "\n".join(lines) + "\n"


def main() -> None:
    """Resolve all layers together, then write each with what the layers before it leave."""
    together = {python: resolve(python, LAYERS, {}) for python in PYTHONS}
    written: dict[str, set[str]] = {python: set() for python in PYTHONS}
    for number, layer in enumerate(LAYERS, start=1):
        new = {}
        for python in PYTHONS:
            found = resolve(python, LAYERS[:number], together[python])
            new[python] = {n: pin for n, pin in found.items() if n not in written[python]}
            written[python].update(found)
        (FOLDER / f"{layer}.txt").write_text(lock_text(layer, new))


if __name__ == "__main__":
    main()
