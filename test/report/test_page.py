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
from dfm_vla_ros.report.writing import write_report

EVIL = "</script><b id='evil'>&amp;<img src=x onerror=alert(1)>"
NAMELESS = """
[...document.querySelectorAll('a, button, input, video, [tabindex]:not([tabindex="-1"])')]
  .filter((e) => !(e.ariaLabel || e.textContent.trim() || (e.labels && e.labels.length)))
  .map((e) => e.outerHTML.slice(0, 120))
"""
FOCUS = """(() => { const e = document.activeElement, s = getComputedStyle(e);
 return [e.tagName, e.ariaLabel || e.id || e.textContent.slice(0, 30),
         s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2]; })()"""
WHERE = "document.getElementById('where').textContent"
HEAT = "document.querySelector('.matrix canvas').toDataURL()"
CHANGES = (
    "document.querySelector('.bar.chosen') && document.querySelector('.bar.chosen').outerHTML"
)
TIP = (
    "document.getElementById('tooltip').hidden ? '' : document.getElementById('tooltip').innerText"
)
PATH = "document.querySelector('.overlay path').getAttribute('d')"
SEEN = "document.querySelector('#seen img').src"
INK = "getComputedStyle(document.body).color"
GROUND = "getComputedStyle(document.body).backgroundColor"


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
    reports = {
        "replay": Report("Replay", {"command": "dfm-vla replay BAG"}, (good,)),
        "two": Report("Two", replays=(good, run("other", noise=0.05, seed=1))),
        "evaluation": Report("Evaluation", evaluations=(evaluation(), evaluation("other", 1))),
        "evil": Report(EVIL, {EVIL: EVIL}, (evil,)),
        "bare": Report("Bare", replays=(bare,)),
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


@pytest.mark.parametrize("name", ["replay", "two", "evaluation", "evil", "bare", "empty"])
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


def test_that_arrow_keys_scrub_through_chunks_and_steps(
    page: Page, pages: dict[str, Path]
) -> None:
    page.open(pages["replay"])
    assert page.value(WHERE).startswith("chunk 1 of 15, 0 s; step 16 of 16, validation")
    before = [page.value(part) for part in (HEAT, PATH, SEEN)]
    page.press("ArrowRight")
    page.press("ArrowRight")
    assert page.value(WHERE).startswith("chunk 3 of 15, 0.8 s; step 16 of 16")
    after = [page.value(part) for part in (HEAT, PATH, SEEN)]
    assert all(a != b for a, b in zip(before, after, strict=True))
    page.press("ArrowLeft")
    assert page.value(WHERE).startswith("chunk 2 of 15")
    heat, path, chosen = (page.value(part) for part in (HEAT, PATH, CHANGES))
    page.press("ArrowLeft", SHIFT)
    page.press("ArrowLeft", SHIFT)
    assert "step 14 of 16, refinement at t = 0.812" in page.value(WHERE)
    assert page.value(PATH) != path, "the path that the tokens of this step mean"
    assert page.value(CHANGES) != chosen
    assert page.value(HEAT) == heat, "the map of a chunk is the same; its frame moves"
    assert page.complaints == []


def test_that_scrubbing_stops_at_either_end(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["replay"])
    page.press("ArrowLeft")
    assert page.value(WHERE).startswith("chunk 1 of 15")
    for _ in range(20):
        page.press("ArrowRight")
    assert page.value(WHERE).startswith("chunk 15 of 15")


def test_that_the_sliders_answer_to_the_keyboard(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["replay"])
    page.value("document.getElementById('step').focus()")
    page.press("ArrowLeft")
    assert "step 15 of 16" in page.value(WHERE)
    page.value("document.getElementById('chunk').focus()")
    page.press("ArrowRight")
    assert page.value(WHERE).startswith("chunk 2 of 15")
    spoken = page.value("document.getElementById('chunk').getAttribute('aria-valuetext')")
    assert spoken == "chunk 2 at 0.4 seconds"


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
    tags = {tag for tag, _ in seen}
    assert {"A", "BUTTON", "INPUT", "CANVAS", "svg", "VIDEO"} <= tags
    assert {"theme", "play", "chunk", "step"} <= {name for _, name in seen} | {"theme", "play"}
    assert sum(tag == "svg" for tag, _ in seen) > 20


def test_that_plots_are_read_by_arrow_keys_and_left_by_escape(
    page: Page, pages: dict[str, Path]
) -> None:
    page.open(pages["two"])
    page.value("document.querySelector('.matrix canvas').focus()")
    page.press("ArrowRight")
    first = page.value(TIP)
    assert "step 1, left_joint1" in first and "confidence" in first
    page.press("ArrowRight")
    assert "step 1, left_joint2" in page.value(TIP)
    page.press("ArrowUp")
    assert "step 15 of 16" in page.value(WHERE), "moving through rows moves the step"
    page.press("Escape")
    assert page.value(TIP) == ""
    page.value("document.querySelector('[aria-label^=\"Error by step, arm\"]').focus()")
    page.press("ArrowRight")
    page.press("ArrowRight")
    assert "step of the chunk 2" in page.value(TIP)
    assert "good:" in page.value(TIP) and "other:" in page.value(TIP)
    assert page.value(WHERE).startswith("chunk 1 "), "what a plot takes does not scrub"


def test_that_hovering_shows_values_and_a_click_goes_there(
    page: Page, pages: dict[str, Path]
) -> None:
    page.open(pages["two"])
    page.hover("[aria-label^='left_joint1 ']", 0.5, 0.4)
    tip = page.value(TIP)
    assert tip.startswith("left_joint1, time [s]")
    assert "commanded: " in tip and "measured: " in tip and "other, this step: " in tip
    page.hover("[aria-label^='left_joint1 ']", 0.8, 0.4)
    assert page.value(TIP) != tip
    before = page.value(WHERE)
    page.value(
        "(() => { const e = document.querySelector('[aria-label^=\"left_joint1 \"]'),"
        " b = e.getBoundingClientRect(); e.dispatchEvent(new MouseEvent('click',"
        " {clientX: b.left + 0.8 * b.width, clientY: b.top + 20})); })()"
    )
    assert page.value(WHERE) != before
    page.hover("h1")
    assert page.value(TIP) == ""


def test_that_two_runs_stand_side_by_side(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["two"])
    boxes = page.value(
        "[...document.querySelectorAll('.pair canvas')].map((c) => {"
        " const b = c.getBoundingClientRect(); return [b.left, b.top]; })"
    )
    assert len(boxes) == 2
    assert boxes[0][1] == boxes[1][1] and boxes[0][0] < boxes[1][0]
    assert page.value("document.querySelectorAll('.overlay path').length") == 2 * 14
    heads = page.value("document.querySelector('thead').innerText")
    assert "good" in heads and "other" in heads
    titles = page.value("[...document.querySelectorAll('h2')].map((h) => h.textContent)")
    assert titles.count("Cameras: good") == 1 and "Cameras: other" not in titles, "shared: once"


def test_that_the_system_chooses_the_colours_and_the_button_changes_them(
    page: Page, pages: dict[str, Path]
) -> None:
    page.size(1280, 900, dark=True)
    page.open(pages["replay"])
    dark, heat = page.value(GROUND), page.value(HEAT)
    assert dark == "rgb(20, 23, 27)"
    page.value("document.getElementById('theme').focus()")
    page.press("Enter")
    assert page.value(GROUND) == "rgb(255, 255, 255)"
    assert page.value(INK) == "rgb(27, 31, 36)"
    assert page.value(HEAT) != heat, "what is drawn on a canvas as well"
    page.press("Enter")
    assert page.value(GROUND) == dark
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
    rows = "document.querySelectorAll('.tall')[0].querySelectorAll('tbody tr').length"
    assert page.value(rows) == 30
    page.value("document.querySelectorAll('input[value=error]')[0].click()")
    assert page.value(rows) == 3
    heads = "document.querySelectorAll('.tall')[0].querySelectorAll('th')"
    page.value(f"{heads}[4].querySelector('button').click()")
    assert page.value(f"{heads}[4].getAttribute('aria-sort')") == "ascending"
    titles = page.value("[...document.querySelectorAll('h2')].map((h) => h.textContent)")
    assert "Films of successes: default" in titles
    page.hover("[aria-label^='Success by task']", 0.6, 0.1)
    assert " of 9, 40% to 95%" in page.value(TIP)
    assert page.complaints == []


def test_that_a_joint_that_follows_another_command_lies_off_the_diagonal(
    page: Page, folder: Path, good: ReplayRun
) -> None:
    write_report(Report("Order", replays=(broken(good, "wrong joint order"),)), folder / "o.html")
    page.open(folder / "o.html")
    page.value("document.querySelectorAll('.matrix canvas')[1].focus()")
    page.press("ArrowRight")
    assert "nearest: right_joint1" in page.value(TIP)
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
