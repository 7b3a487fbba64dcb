"""Point the message wheels' exported CMake files at this interpreter's headers.

The wheels name the Python and NumPy include folders of the machine that built them, and CMake
stops at an include folder that does not exist.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy

NUMPY_INCLUDE = re.compile(r"/opt/python/[^;\"]*?/site-packages/numpy/_core/include")
PYTHON_INCLUDE = re.compile(r"/opt/python/[^;\"]*?/include/python3\.\d+")


def repaired(text: str) -> str:
    """Return the text of a CMake file with the build machine's folders replaced."""
    text = NUMPY_INCLUDE.sub(lambda _: numpy.get_include(), text)
    return PYTHON_INCLUDE.sub(lambda _: sysconfig.get_path("include"), text)


def repair(share: Path) -> int:
    """Rewrite the CMake files under ``share`` in place; return how many changed."""
    changed = 0
    for path in share.glob("*/cmake/*.cmake"):
        text = path.read_text(encoding="utf-8")
        if (new := repaired(text)) != text:
            temporary = path.with_suffix(".partial")
            temporary.write_text(new, encoding="utf-8")
            temporary.replace(path)
            changed += 1
    return changed


if __name__ == "__main__":
    print(f"{repair(Path(sys.prefix) / 'share')} CMake files repaired")
