"""Image tokens are encoded once, and damaged files are noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up import make_episode, write_set
from numpy.typing import NDArray

from dfm_vla_ros.data.dataset import Dataset
from dfm_vla_ros.data.format import DatasetError
from dfm_vla_ros.data.token_cache import TokenCache


class Encoder:
    """Brightness of four bands of the image; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.int16]:
        self.asked += 1
        bands = images.reshape(len(images), 4, -1)
        return bands.mean(2).astype(np.int16)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.open(write_set(tmp_path / "set", [make_episode(1), make_episode(2)]))


def test_that_tokens_are_encoded_once_and_mapped_from_then_on(
    dataset: Dataset, tmp_path: Path
) -> None:
    encode = Encoder()
    expected = Encoder()(dataset.episode(1).images["third"])
    for _ in range(3):
        tokens = TokenCache(tmp_path / "cache", "abc").tokens(dataset, 1, "third", encode)
        np.testing.assert_array_equal(tokens, expected)
        assert isinstance(tokens, np.memmap)
        assert not tokens.flags.writeable
    assert encode.asked == 1


def test_that_tokenizer_data_set_episode_and_camera_tell_tokens_apart(
    dataset: Dataset, tmp_path: Path
) -> None:
    encode = Encoder()
    other = Dataset.open(write_set(tmp_path / "other", [make_episode(1), make_episode(2)]))
    for cache in (TokenCache(tmp_path / "cache", name) for name in ("abc", "abd")):
        for episodes in (dataset, other):
            for i in range(2):
                for camera in dataset.cameras:
                    cache.tokens(episodes, i, camera, encode)
    assert encode.asked == 16
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 16


@pytest.mark.parametrize("fault", ["cut", "flip", "empty", "missing", "foreign"])
def test_that_a_damaged_entry_is_encoded_again(
    dataset: Dataset, tmp_path: Path, fault: str
) -> None:
    encode, cache = Encoder(), TokenCache(tmp_path / "cache", "abc")
    expected = np.array(cache.tokens(dataset, 0, "third", encode))
    (path,) = (tmp_path / "cache").rglob("*.npy")
    content = bytearray(path.read_bytes())
    if fault == "cut":
        path.write_bytes(content[:-9])
    elif fault == "flip":
        content[-8] ^= 1  # a token, not the header
        path.write_bytes(content)
    elif fault == "empty":
        path.write_bytes(b"")
    elif fault == "missing":
        path.unlink()
    else:
        path.write_bytes(b"no array at all")
    np.testing.assert_array_equal(cache.tokens(dataset, 0, "third", encode), expected)
    cache.tokens(dataset, 0, "third", encode)
    assert encode.asked == 2
    assert [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()] == [path.name]


def test_that_tokens_that_are_not_one_row_an_image_are_refused(
    dataset: Dataset, tmp_path: Path
) -> None:
    cache = TokenCache(tmp_path / "cache", "abc")
    with pytest.raises(DatasetError, match=r"5 images of third were encoded as \(4, 2\) int64"):
        cache.tokens(dataset, 0, "third", lambda images: np.zeros((4, 2), np.int64))
    with pytest.raises(DatasetError, match="float64; give a row of whole numbers for each"):
        cache.tokens(dataset, 0, "third", lambda images: np.zeros((5, 2)))
