"""Image codes of data sets, encoded once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from demonstrations import small_run, write

from dfm_vla_ros.data.dataset import open_datasets
from dfm_vla_ros.model.vision import FsqConfig, FsqTokenizer
from dfm_vla_ros.robot.joints import CAMERAS
from dfm_vla_ros.schema import ConfigError
from dfm_vla_ros.training.config import AugmentationConfig
from dfm_vla_ros.training.frames import (
    CodeCache,
    Encoder,
    EpisodeSource,
    list_sources,
    open_cache,
    resized,
    tokenizer_hash,
)


@pytest.fixture
def tokenizer() -> FsqTokenizer:
    torch.manual_seed(0)
    return FsqTokenizer(FsqConfig(image_size=32, hidden=8)).eval().requires_grad_(False)


@pytest.fixture
def sources(tmp_path: Path) -> list[EpisodeSource]:
    return list_sources(open_datasets([write(tmp_path / "demos", 3, 6)]), 0)


def encoder(
    tmp_path: Path, tokenizer: FsqTokenizer, cameras: tuple[str, ...] = CAMERAS, variants: int = 2
) -> Encoder:
    cache = open_cache(small_run(tmp_path), tokenizer)
    return Encoder(tokenizer, cameras, cache, AugmentationConfig(variants=variants), seed=0)


def test_that_codes_are_those_of_the_images_clean_first(
    tmp_path: Path, tokenizer: FsqTokenizer, sources: list[EpisodeSource]
) -> None:
    codes = encoder(tmp_path, tokenizer).all(sources)
    assert codes.shape == (18, 3, 3, 16)
    images = sources[1].read(images=True).images[CAMERAS[2]]
    expected = tokenizer.encode(torch.from_numpy(images)).numpy()
    assert np.array_equal(codes[6:12, 0, 2], expected)
    assert not np.array_equal(codes[:, 1], codes[:, 0])
    assert not np.array_equal(codes[:, 1], codes[:, 2])


def test_that_nothing_is_encoded_twice(
    tmp_path: Path,
    tokenizer: FsqTokenizer,
    sources: list[EpisodeSource],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = encoder(tmp_path, tokenizer).all(sources)
    seen = []
    original = FsqTokenizer.encode

    def counting(self: FsqTokenizer, images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return original(self, images)

    monkeypatch.setattr(FsqTokenizer, "encode", counting)
    assert np.array_equal(encoder(tmp_path, tokenizer).all(sources), first)
    assert encoder(tmp_path, tokenizer, CAMERAS[:1]).all(sources).shape == (18, 3, 1, 16)
    assert not seen
    encoder(tmp_path, tokenizer, variants=3).all(sources)
    assert len(seen) == 9, "the new version of three cameras in three episodes"


def test_that_another_tokenizer_has_codes_of_its_own(
    tmp_path: Path, tokenizer: FsqTokenizer, sources: list[EpisodeSource]
) -> None:
    before = tokenizer_hash(tokenizer)
    first = encoder(tmp_path, tokenizer).all(sources)
    with torch.no_grad():
        next(tokenizer.parameters()).mul_(-3)
    assert tokenizer_hash(tokenizer) != before
    assert not np.array_equal(encoder(tmp_path, tokenizer).all(sources), first)


def test_that_large_images_are_seen_as_the_policy_sees_them() -> None:
    images = np.zeros((2, 48, 64, 3), dtype=np.uint8)
    images[:, :, 8:56] = 200  # the centre square
    assert (resized(images, 24) == 200).all()


def test_that_data_sets_of_different_kinds_are_refused_by_name(tmp_path: Path) -> None:
    folders = [write(tmp_path / name, 1, 6) for name in ("a", "b")]
    first, second = open_datasets(folders)
    slower = replace(second.info, spec=replace(second.info.spec, period_s=0.2))
    with pytest.raises(ConfigError, match=r"differ in period_s: .*a: 0\.1; .*b: 0\.2"):
        list_sources([first, replace(second, info=slower)], 0)


def test_that_kept_codes_are_mapped_read_only_and_told_apart(tmp_path: Path) -> None:
    expected = np.arange(20, dtype=np.int16).reshape(5, 4)
    for tokenizer in ("abc", "abd"):
        for name in ("third clean", "wrist clean"):
            CodeCache(tmp_path, tokenizer).put("set/episode", name, expected)
    found = CodeCache(tmp_path, "abc").get("set/episode", "third clean")
    np.testing.assert_array_equal(found, expected)
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    assert CodeCache(tmp_path, "abc").get("set/other", "third clean") is None
    assert len(list(tmp_path.rglob("*.npy"))) == 4


@pytest.mark.parametrize("fault", ["cut", "flip", "empty", "missing", "foreign"])
def test_that_damaged_codes_count_as_absent(tmp_path: Path, fault: str) -> None:
    cache = CodeCache(tmp_path, "abc")
    cache.put("set/episode", "third", np.arange(20))
    (path,) = tmp_path.rglob("*.npy")
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # a code, not the header
    faults = {"cut": content[:-9], "flip": content, "empty": b"", "foreign": b"no array at all"}
    path.unlink()
    if fault in faults:
        path.write_bytes(faults[fault])
    assert cache.get("set/episode", "third") is None
    cache.put("set/episode", "third", np.arange(20))
    np.testing.assert_array_equal(cache.get("set/episode", "third"), np.arange(20))
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [path.name]
