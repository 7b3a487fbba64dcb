"""Decoding is timed: every row, the stable keys, and an engine whose memory stays."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from networks import TOKENS, action_tokens, prefix_ids, unified
from small import random_observation, small_checkpoint

from dfm_vla_ros.cli import main
from dfm_vla_ros.model.caching import Caching
from dfm_vla_ros.model.engine import Engine
from dfm_vla_ros.model.speed import small, step_bytes

DECODERS = ["ar", "masked", "masked+cache", "dfm", "dfm+prefix", "dfm+adaptive", "dfm+early_stop"]
COLUMNS = {
    "decoder",
    "device",
    "model",
    "chunks_per_s",
    "ms_per_chunk",
    "prefill_ms",
    "evaluations",
}


def test_that_bench_decode_writes_every_row_with_the_stable_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "decode.json"
    arguments = ["--model", "tiny-emu3", "--device", "cpu", "--prefix", "40", "--repeats", "1"]
    main(["bench", "decode", *arguments, "--json", str(path)])
    content = json.loads(path.read_text())
    assert [row["decoder"] for row in content["rows"]] == DECODERS
    assert all(set(row) == COLUMNS for row in content["rows"])
    counts = {row["decoder"]: row["evaluations"] for row in content["rows"]}
    assert (counts["ar"], counts["masked"], counts["dfm+adaptive"]) == (70, 16, 16)
    for row in content["rows"]:
        assert row["chunks_per_s"] * row["ms_per_chunk"] == pytest.approx(1000)
        assert (row["prefill_ms"] == 0) == (row["decoder"] in ("masked", "dfm"))
    assert content["ceilings"]["tiny-emu3"]["matrix_tflops"] > 0
    assert "a step takes" in capsys.readouterr().out


def test_that_a_gpu_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["bench", "decode", "--model", "tiny-emu3", "--device", "cuda"]) == 1
    assert "torch finds no GPU" in capsys.readouterr().err


def test_that_the_largest_model_is_not_tried_on_a_cpu(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "decode", "--model", "8.5b", "--device", "cpu"]) == 1
    assert "needs a GPU with 24 GB" in capsys.readouterr().err


def test_that_a_repeated_prefix_leaves_the_prediction_as_it_is() -> None:
    checkpoint, seen = small_checkpoint(), random_observation()
    prefix = checkpoint.encode_prefix(
        seen.instruction, seen.images, seen.positions, seen.commanded
    )
    once = checkpoint.config.refiner.prefix_length
    tokens = torch.arange(70)[None] % 64
    short, long = (
        small(checkpoint, "cpu", [prefix], length).refiner for length in (once, 5 * once)
    )
    expected = short.denoise(tokens, short.prefill(prefix))
    # All of the prefix sees only itself: copies do not change it. An action sees itself too, so
    # five prefixes weigh more against it, but no more than that.
    found = long.denoise(tokens, long.prefill(prefix))
    assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.95
    keys = long.prefill(prefix).keys[-1]
    torch.testing.assert_close(keys[:, :, :once], keys[:, :, once : 2 * once])


def test_that_an_engine_uses_its_memory_again_and_forgets_the_chunk_before() -> None:
    refiner = unified()
    engine = Engine(refiner, Caching("adaptive", 0.3))
    tokens = action_tokens(6)
    expected, places = [], set()
    for seed in (1, 2, 1):
        ids = prefix_ids(seed=seed)
        fresh = refiner.prefill(ids, Caching("adaptive", 0.3))
        expected = [refiner.denoise(row, fresh) for row in tokens]
        cache = engine.prefill(ids)
        places.add(cache.keys[0].data_ptr())
        for row, logits in zip(tokens, expected, strict=True):
            assert torch.equal(engine.denoise(row, cache), logits)
    assert len(places) == 1
    longer = engine.prefill(torch.cat([prefix_ids(), prefix_ids()], dim=1))
    assert longer.length == 73


def test_that_a_step_reads_layers_and_action_rows_but_not_the_whole_vocabulary() -> None:
    refiner = unified()
    refiner.keep_rows()
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96 + 2 * 64
    assert step_bytes(refiner) == 4 * (3 * layer + 60 * 64)


@pytest.mark.gpu
def test_that_a_captured_step_predicts_as_the_network_does() -> None:
    refiner = unified().cuda()
    engine = Engine(refiner)
    for seed in (1, 2):
        ids = prefix_ids(seed=seed).cuda()
        cache, plain = engine.prefill(ids), refiner.prefill(ids)
        for row in action_tokens(4).cuda():
            expected = refiner.denoise(row, plain)
            torch.testing.assert_close(engine.denoise(row, cache), expected, atol=1e-4, rtol=0)
    nothing = torch.zeros(2, TOKENS, dtype=torch.long, device="cuda")
    for first in range(3):
        expected = refiner.next_logits(nothing, first, 1, plain)
        found = engine.next_logits(nothing, first, 1, cache)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_that_ten_thousand_chunks_take_no_more_memory_than_a_thousand() -> None:
    torch.set_num_threads(1)
    engine = Engine(unified(), Caching("adaptive", 0.3))
    tokens, seen = action_tokens(2, batch=1), {}
    ids = [prefix_ids(batch=1, seed=seed) for seed in range(4)]
    with torch.inference_mode():
        for chunk in range(10_001):
            cache = engine.prefill(ids[chunk % 4])
            for row in tokens:
                engine.denoise(row, cache)
            if chunk in (1000, 10_000):
                seen[chunk] = _resident_bytes()
    assert seen[10_000] < seen[1000] + 4e6, seen


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
