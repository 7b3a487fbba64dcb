"""Draw a report page in a headless Chromium as a PNG: the pictures of docs/debugging.md.

.venv/bin/python scripts/screenshot.py out/replay/report.html docs/images/report.png
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "test"))

from report_browser import SHIFT, Page, browser_page

FIND = """[...document.querySelectorAll('h2')].find((h) => h.textContent.startsWith({title}))"""
BOX = """(() => {{ const b = {find}.parentNode.getBoundingClientRect();
 return {{x: b.left - 8, y: b.top + scrollY, width: b.width + 16, height: b.height}}; }})()"""


def main() -> None:
    """Parse the arguments and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path, help="PNG")
    parser.add_argument("--section", help="beginning of a heading: that section alone")
    parser.add_argument("--top", help="beginning of a heading: the window from there on")
    parser.add_argument("--chunks", type=int, default=0, help="how far to scrub")
    parser.add_argument("--back", type=int, default=0, help="refinement steps from the last")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--size", type=int, nargs=2, default=(1200, 900), help="[px]")
    options = parser.parse_args()
    with browser_page() as page:
        page.size(*options.size, dark=options.dark)
        page.open(options.page)
        for _ in range(options.chunks):
            page.press("ArrowRight")
        for _ in range(options.back):
            page.press("ArrowLeft", SHIFT)
        options.picture.write_bytes(shot(page, options.section, options.top))
        if page.complaints:
            sys.exit(f"the page complains: {page.complaints}")


def shot(page: Page, section: str | None, top: str | None) -> bytes:
    """Return a PNG of a section, or of the window."""
    title = section or top
    if title is None:
        return page.screenshot()
    find = FIND.format(title=json.dumps(title))
    if not page.value(f"Boolean({find})"):
        sys.exit(f"no section of the page begins with {title!r}")
    page.value(f"{find}.scrollIntoView()")
    page.settle()
    if section is None:
        return page.screenshot()
    page.value("document.querySelectorAll('.scrub').forEach((bar) => { bar.hidden = true; })")
    return page.screenshot(clip=page.value(BOX.format(find=find)))


if __name__ == "__main__":
    main()
