"""The page in a headless Chromium, by keyboard and pointer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_browser import SHIFT, Page, browser_page
from report_synthetic import broken, evaluation, run

from dfm_vla_ros.report.content import ReplayRun, Report
from dfm_vla_ros.report.page import write_report

EVIL = "</script><b id='evil'>&amp;<img src=x onerror=alert(1)>{{ 7 * 7 }}"
NAMELESS = """
[...document.querySelectorAll('a, button, input, select, video, [tabindex]:not([tabindex="-1"])')]
  .filter((e) => !(e.ariaLabel || e.textContent.trim() || (e.labels && e.labels.length)))
  .map((e) => e.outerHTML.slice(0, 120))
"""
FOCUS = """(() => { const e = document.activeElement, s = getComputedStyle(e);
 return [e.tagName, e.ariaLabel || e.id || e.textContent.slice(0, 30),
         s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2]; })()"""
WHERE = "document.getElementById('where').textContent"
HEAT = "document.querySelector('.matrix canvas').toDataURL()"
SAID = "document.querySelector('.matrix output').textContent"
SEEN = "document.querySelector('#seen img').src"
INK = "getComputedStyle(document.body).color"
GROUND = "getComputedStyle(document.body).backgroundColor"


def drawn(title: str) -> str:
    """Return an expression for the pixels of a plot."""
    return f"document.querySelector('[aria-label^=\"{title}\"] canvas').toDataURL()"


def legend(title: str) -> str:
    """Return an expression for what a plot says of the values at the pointer."""
    return f"document.querySelector('[aria-label^=\"{title}\"] .u-legend').innerText"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def good() -> ReplayRun:
    return run()


@pytest.fixture(scope="module")
def pages(folder: Path, good: ReplayRun) -> dict[str, Path]:
    """Return a replay, two checkpoints side by side, evaluations, and a page that means ill."""
    evil = replace(good, name=EVIL, facts={EVIL: EVIL}, problems=(EVIL,))
    evil = replace(
        evil, chunks=tuple(replace(c, instruction=EVIL, refused=EVIL) for c in evil.chunks)
    )
    bare = replace(
        good, chunks=(), films=(), samples={}, references=(), gaps=(), sources=(), facts={}
    )
    plain = replace(good, chunks=tuple(replace(c, refinement=None) for c in good.chunks))
    reports = {
        "replay": Report("Replay", {"command": "dfm-vla replay BAG"}, (good,)),
        "two": Report("Two", replays=(good, run("other", noise=0.05, seed=1))),
        "evaluation": Report("Evaluation", evaluations=(evaluation(), evaluation("other", 1))),
        "evil": Report(EVIL, {EVIL: EVIL}, (evil,)),
        "bare": Report("Bare", replays=(bare,)),
        "untraced": Report("Untraced", replays=(plain,)),
        "empty": Report("Empty"),
    }
    for name, report in reports.items():
        write_report(report, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in reports}


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with browser_page() as page:
        page.size(1280, 900)
        yield page


@pytest.fixture
def page(browser: Page) -> Page:
    browser.complaints.clear()
    browser.requests.clear()
    return browser


@pytest.mark.parametrize(
    "name", ["replay", "two", "evaluation", "evil", "bare", "untraced", "empty"]
)
def test_that_a_page_loads_without_complaint_and_without_a_network(
    page: Page, pages: dict[str, Path], name: str
) -> None:
    page.open(pages[name])
    assert page.complaints == []
    assert {request.split(":")[0] for request in page.requests} <= {"file", "blob", "data"}
    assert len([r for r in page.requests if r.startswith("file:")]) == 1


def test_that_text_of_a_bag_stays_text(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["evil"])
    assert page.value("document.querySelector('#evil, main b, main img[src=x]')") is None
    assert page.value("document.querySelector('h1').textContent") == EVIL
    assert EVIL in page.value("document.querySelector('#seen').parentNode.textContent")
    assert page.complaints == []


def test_that_arrow_keys_scrub_through_chunks_and_steps_as_far_as_they_go(
    page: Page, pages: dict[str, Path]
) -> None:
    page.open(pages["replay"])
    parts = (HEAT, drawn("left_joint1"), drawn("Token changes"), SEEN)
    page.press("ArrowLeft")
    assert page.value(WHERE).startswith("chunk 1 of 15, 0 s; step 16 of 16, validation")
    before = [page.value(part) for part in parts]
    page.press("ArrowRight")
    page.press("ArrowRight")
    assert page.value(WHERE).startswith("chunk 3 of 15, 0.8 s; step 16 of 16")
    after = [page.value(part) for part in parts]
    assert all(a != b for a, b in zip(before, after, strict=True))
    page.press("ArrowLeft", SHIFT)
    page.press("ArrowLeft", SHIFT)
    assert "step 14 of 16, refinement at t = 0.813" in page.value(WHERE)
    heat, joint, changes, _ = (page.value(part) for part in parts)
    assert joint != after[1], "the path that the tokens of this step mean"
    assert changes != after[2], "its line moves"
    assert heat == after[0], "the map of a chunk is the same; its frame moves"
    for _ in range(20):
        page.press("ArrowRight")
    assert page.value(WHERE).startswith("chunk 15 of 15")
    assert page.complaints == []


def test_that_the_sliders_answer_to_the_keyboard(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["replay"])
    page.value("document.getElementById('step').focus()")
    page.press("ArrowLeft")
    assert "step 15 of 16" in page.value(WHERE)
    page.value("document.getElementById('chunk').focus()")
    page.press("ArrowRight")
    assert page.value(WHERE).startswith("chunk 2 of 15")
    assert page.value("document.getElementById('chunk').ariaValueText") == (
        "chunk 2 at 0.4 seconds"
    )


def test_that_playing_goes_through_steps_and_chunks(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["replay"])
    page.value("document.getElementById('play').click()")
    page.wait(f"{WHERE}.startsWith('chunk 2 of 15')")
    page.value("document.getElementById('play').click()")
    stopped = page.value(WHERE)
    page.settle()
    assert page.value(WHERE) == stopped


def test_that_every_control_is_reached_by_tab_named_and_seen_to_have_the_focus(
    page: Page, pages: dict[str, Path]
) -> None:
    page.open(pages["two"])
    assert page.value(NAMELESS) == []
    seen = []
    for _ in range(90):
        page.press("Tab")
        tag, name, outlined = page.value(FOCUS)
        if tag == "BODY":
            break
        seen.append((tag, name))
        assert outlined or tag == "VIDEO", (tag, name)
    assert {"A", "BUTTON", "INPUT", "CANVAS", "SELECT", "VIDEO"} <= {tag for tag, _ in seen}
    assert {"theme", "Chunk", "chunk", "step"} & {name for _, name in seen}
    assert sum("[rad]" in name for _, name in seen) == 13


def test_that_plots_are_read_by_arrow_keys(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["two"])
    page.value("document.querySelector('.matrix canvas').focus()")
    page.press("ArrowRight")
    first = page.value(SAID)
    assert first.startswith("step 1, left_joint1") and "confidence" in first
    page.press("ArrowRight")
    assert page.value(SAID).startswith("step 1, left_joint2")
    page.press("ArrowUp")
    assert "step 15 of 16" in page.value(WHERE), "moving through rows moves the step"
    page.value("document.querySelector('[aria-label^=\"Error by step, arm\"]').focus()")
    page.press("ArrowRight")
    page.press("ArrowRight")
    page.settle()
    said = page.value(legend("Error by step, arm"))
    assert said.startswith("step of the chunk2good0.0")
    assert "other0.0" in said
    assert page.value(WHERE).startswith("chunk 1 "), "what a plot takes does not scrub"


def test_that_hovering_shows_values_and_a_click_goes_there(
    page: Page, pages: dict[str, Path]
) -> None:
    page.open(pages["two"])
    over = "[aria-label^='left_joint1 '] .u-over"
    page.hover(over, 0.5, 0.4)
    tip = page.value(legend("left_joint1"))
    assert "commanded" in tip and "measured" in tip and "other, this chunk" in tip
    page.hover(over, 0.8, 0.4)
    assert page.value(legend("left_joint1")) != tip
    page.click(over, 0.8, 0.4)
    assert page.value(WHERE).startswith("chunk 12 of 15")


def test_that_two_runs_stand_side_by_side(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["two"])
    boxes = page.value(
        "[...document.querySelectorAll('.pair canvas')].map((c) => {"
        " const b = c.getBoundingClientRect(); return [b.left, b.top]; })"
    )
    assert len(boxes) == 2
    assert boxes[0][1] == boxes[1][1] and boxes[0][0] < boxes[1][0]
    heads = page.value("document.querySelector('thead').innerText")
    assert "good" in heads and "other" in heads
    titles = page.value("[...document.querySelectorAll('h2')].map((h) => h.textContent)")
    assert titles.count("Cameras: good") == 1 and "Cameras: other" not in titles, "shared: once"


def test_that_the_system_chooses_the_colours_and_the_reader_changes_them(
    page: Page, pages: dict[str, Path]
) -> None:
    page.size(1280, 900, dark=True)
    page.open(pages["replay"])
    dark, heat = page.value(GROUND), page.value(HEAT)
    assert dark == "rgb(20, 23, 27)"
    page.value("document.getElementById('theme').focus()")
    page.press("ArrowDown")
    assert page.value(GROUND) == "rgb(255, 255, 255)"
    assert page.value(INK) == "rgb(27, 31, 36)"
    assert page.value(HEAT) != heat, "what is drawn on a canvas as well"
    page.size(1280, 900)
    page.open(pages["replay"])
    assert page.value(GROUND) == "rgb(255, 255, 255)"


def test_that_films_are_decoded_and_follow_the_scrubber(
    page: Page, pages: dict[str, Path]
) -> None:
    page.open(pages["replay"])
    page.value("document.querySelector('video').scrollIntoView()")
    page.wait("document.querySelector('video').readyState >= 2")
    assert page.value("document.querySelector('video').videoWidth") == 3 * 128
    assert page.value("document.querySelector('video').duration") == pytest.approx(6.0, abs=0.1)
    for _ in range(5):
        page.press("ArrowRight")
    page.wait("Math.abs(document.querySelector('video').currentTime - 2.0) < 0.01")
    page.wait("!document.querySelector('video').seeking")
    assert page.complaints == []


def test_that_a_page_fits_a_narrow_window(page: Page, pages: dict[str, Path]) -> None:
    page.size(400, 800)
    for name in ("replay", "two", "evaluation"):
        page.open(pages[name])
        assert page.value("document.documentElement.scrollWidth") <= 400, name
    page.size(1280, 900)


def test_that_an_evaluation_can_be_sorted_and_filtered(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["evaluation"])
    rows = "[...document.querySelector('.tall').querySelectorAll('tbody tr')]"
    shown = f"{rows}.filter((row) => !row.hidden).length"
    assert page.value(shown) == 30
    page.value("document.querySelector('input[value=error]').click()")
    assert page.value(shown) == 3
    page.value("document.querySelector('input[value=all]').click()")
    heads = "document.querySelector('.tall').querySelectorAll('th')"
    for way, least in (("ascending", 4.0), ("descending", 20.0)):
        page.value(f"{heads}[4].querySelector('button').click()")
        assert page.value(f"{heads}[4].ariaSort") == way
        seconds = [float(s) for s in page.value(f"{rows}.map((r) => r.cells[4].textContent)")]
        assert seconds == sorted(seconds, reverse=way == "descending")
        assert seconds[0] == pytest.approx(least, abs=0.5)
    titles = page.value("[...document.querySelectorAll('h2')].map((h) => h.textContent)")
    assert "Films of successes: default" in titles
    assert "40% to 95%" in page.value("document.querySelector('tbody').innerText")
    assert page.complaints == []


def test_that_a_joint_that_follows_another_command_lies_off_the_diagonal(
    page: Page, folder: Path, good: ReplayRun
) -> None:
    write_report(Report("Order", replays=(broken(good, "wrong joint order"),)), folder / "o.html")
    page.open(folder / "o.html")
    row = "document.querySelector('[aria-label^=\"Distance\"] tbody tr')"
    place = page.value(f"[...{row}.cells].findIndex((cell) => cell.className === 'least')")
    assert place == 8, "measured left_joint1 is nearest to the command of right_joint1"
    assert "What stands out" in page.value("document.body.innerText")


def test_that_a_minute_with_three_cameras_stays_below_ten_megabytes(
    page: Page, folder: Path
) -> None:
    minute = run("minute", duration_s=60.0)
    assert len(minute.chunks) == 150
    assert minute.chunks[0].refinement is not None
    assert minute.chunks[0].refinement.tokens.shape == (16, 112)
    size = write_report(Report("A minute", replays=(minute,)), folder / "minute.html")
    assert size < 10e6
    page.open(folder / "minute.html")
    page.press("ArrowRight")
    assert page.value(WHERE).startswith("chunk 2 of 150")
    assert page.complaints == []
    assert np.isfinite(size)
