"""Draw the pictures of docs/debugging.md: a run of the policy in the twin, good and broken.

.venv/bin/python scripts/report_pictures.py docs/images

Records one episode of Place Block and, as the reference, the beginning of another; breaks what was
recorded as a robot's set-up can be broken; writes the pages and draws the part that tells each.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")
sys.path.insert(0, str(Path(__file__).parents[1] / "test"))

import numpy as np
from PIL import Image
from report_browser import SHIFT, Page, browser_page
from report_synthetic import FAULTS, UNITS, broken
from screenshot import shot

from dfm_vla_ros.evaluation.runner import Loop, load_loop
from dfm_vla_ros.policy.types import Chunk, Guidance, Observation
from dfm_vla_ros.report.content import (
    FilmEncoder,
    Picture,
    PredictedChunk,
    Reference,
    Refinement,
    ReplayRun,
    Report,
)
from dfm_vla_ros.report.page import write_report
from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.joints import JOINT_NAMES

TASK, SEED, REFERENCE_SEED = "place_block", 1_000_004, 1_000_005
SECTIONS = ("Cameras", "Cameras", "Cameras", "Measured", "Measured", "Measured")
"""Of FAULTS."""
CHUNK, STEPS_BACK = 7, 8
COLOURS = 256


def record(loop: Loop) -> ReplayRun:
    """Return one episode of the policy."""
    twin, policy = loop.twin, loop.act.__self__  # type: ignore[attr-defined]
    twin.reset(TASK, REFERENCE_SEED)
    references = [Reference(c, image, "another good run") for c, image in twin.render().items()]
    rows: list[tuple[float, np.ndarray, np.ndarray]] = []
    chunks: list[PredictedChunk] = []
    samples: dict[str, np.ndarray] = {}
    film = FilmEncoder(10.0, ", ".join(policy.cameras))

    def act(observation: Observation, seed: int, guidance: Guidance | None) -> Chunk:
        chunk = policy.act(observation, seed, guidance, trace=True)
        chunks.append(_predicted(twin.time_s, observation, chunk, loop))
        samples.update({c: v for c, v in observation.images.items() if c not in samples})
        return chunk

    def step() -> None:
        rows.append((twin.time_s, twin.positions, twin.commanded))
        type(twin).step(twin)

    loop.act, twin.step = act, step  # type: ignore[method-assign]
    loop.run(TASK, SEED, film.add)
    made = film.finish()
    times_s, measured, commanded = (np.array(part) for part in zip(*rows[::5], strict=True))
    limits = loop.limits
    return ReplayRun(
        "default",
        JOINT_NAMES,
        UNITS,
        times_s,
        measured,
        commanded,
        tuple(chunks),
        loop.tokenizer.control_period_s,
        limits.lower,
        limits.upper,
        films=() if made is None else (made,),
        samples=samples,
        references=tuple(references),
        facts={"task": TASK, "seed": str(SEED)},
    )


def _predicted(
    time_s: float, observation: Observation, chunk: Chunk, loop: Loop
) -> PredictedChunk:
    trace, codec = chunk.trace, loop.tokenizer
    assert trace is not None
    rows = trace.tokens.reshape(len(trace.tokens), *codec.token_shape)
    refinement = Refinement(
        trace.kinds,
        trace.times,
        trace.tokens,
        trace.targets,
        trace.jumped,
        trace.confidence,
        trace.committed,
        np.stack([codec.decode(row, chunk.reference) for row in rows]),
    )
    return PredictedChunk(
        time_s,
        codec.decode(chunk.tokens, chunk.reference),
        chunk.inference_s,
        refinement,
        {camera: Picture.of(image) for camera, image in observation.images.items()},
        instruction=observation.instruction,
    )


def pictures(page: Page, good: ReplayRun, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and PNGs."""
    file = folder / "page.html"
    write_report(
        Report("Place Block in the twin", {"task": TASK, "seed": str(SEED)}, (good,)), file
    )
    page.open(file)
    for _ in range(CHUNK):
        page.press("ArrowRight")
    for _ in range(STEPS_BACK):
        page.press("ArrowLeft", SHIFT)
    yield "report", shot(page, None, "Refinement")
    for fault, section in zip(FAULTS, SECTIONS, strict=True):
        write_report(Report(fault, replays=(broken(good, fault),)), file)
        page.open(file)
        yield f"fault_{fault.replace(' ', '_').lower()}", shot(page, section, None)


def main() -> None:
    """Record, break, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    loop = load_loop(resource_path("checkpoints/default"))
    good = record(loop)
    loop.twin.close()
    with tempfile.TemporaryDirectory() as pages, browser_page() as page:
        page.size(1200, 900)
        for name, png in pictures(page, good, Path(pages)):
            path = folder / f"{name}.png"
            _smaller(png).save(path, optimize=True)
            print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
        if page.complaints:
            sys.exit(f"the page complains: {page.complaints}")


def _smaller(png: bytes) -> Image.Image:
    """Return the picture with few colours, as plots have."""
    return Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE)


if __name__ == "__main__":
    main()
