"""``python -m dfm_vla_ros.nodes.child PARENT SIGNAL MODULE ...``: dies with its parent.

The kernel sends SIGNAL when the process PARENT ends, even if that is killed outright. Set before
anything heavy is imported, so that no moment is left in which an orphan could stay.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import sys

_PR_SET_PDEATHSIG = 1


def follow(parent: int, death: int) -> None:
    """Ask for signal ``death`` when ``parent`` ends; exit at once if it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, death)
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    """Run the module given on the command line."""
    parent, death, module = sys.argv[1:4]
    follow(int(parent), int(death))
    sys.argv = [module, *sys.argv[4:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
