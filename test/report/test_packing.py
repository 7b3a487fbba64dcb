from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from dfm_vla_ros.report.content import Report, ReportError
from dfm_vla_ros.report.pictures import Picture
from dfm_vla_ros.report.writing import Packer, page, script_json


def unpacked(packer: Packer, packed: dict[str, Any]) -> np.ndarray:
    """Return an array as the page reads it."""
    content = zlib.decompress(base64.b64decode(packer.arrays()))
    count = int(np.prod(packed["shape"]))
    levels = np.frombuffer(content, "<" + np.dtype(packed["type"]).str[1:], count, packed["array"])
    levels = levels.reshape(packed["shape"])
    if "step" not in packed:
        return levels
    return np.where(levels == 65535, np.nan, packed["low"] + packed["step"] * levels)


@given(
    arrays(
        np.float64,
        array_shapes(max_dims=3, max_side=5),
        elements=st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf]),
    )
)
def test_that_floats_come_back_within_half_a_step_and_the_rest_as_nan(values: np.ndarray) -> None:
    packer = Packer()
    packed = packer.pack(values)
    back, known = unpacked(packer, packed), np.isfinite(values)
    assert back.shape == values.shape
    assert np.isnan(back[~known]).all()
    coarse = 1e-40 + 6e-8 * np.abs(values[known]).max(initial=0.0)
    bound = 0.5 * packed["step"] if "step" in packed else coarse
    assert np.abs(back - values)[known].max(initial=0.0) <= bound * (1 + 1e-9)
    assert packed.get("step", 0.0) <= 1e-3


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=9))
def test_that_whole_numbers_come_back_exactly(numbers: list[int]) -> None:
    packer = Packer()
    packer.pack(np.array([1], dtype=np.uint8))  # so that the next piece must be aligned
    packed = packer.pack(np.array(numbers))
    assert packed["array"] % np.dtype(packed["type"]).itemsize == 0
    assert unpacked(packer, packed).tolist() == numbers


def test_that_times_of_an_hour_are_kept_to_the_millisecond() -> None:
    packer, times_s = Packer(), np.arange(0, 3600, 0.05)
    assert np.abs(unpacked(packer, packer.pack(times_s)) - times_s).max() < 1e-3


def test_that_equal_arrays_and_pictures_are_stored_once() -> None:
    packer = Packer()
    picture = Picture.of(np.full((8, 8, 3), 90, dtype=np.uint8))
    first, second = (packer.pack({"a": np.arange(900.0), "p": picture}) for _ in range(2))
    assert first == second
    assert len(base64.b64decode(packer.files())) == len(picture.data)


def test_that_what_cannot_be_shown_is_refused_by_its_kind() -> None:
    with pytest.raises(ReportError, match="a complex cannot be shown"):
        Packer().pack({"z": 1j})
    with pytest.raises(ReportError, match="32-bit"):
        Packer().pack(np.array([2**40]))


def test_that_a_page_is_html_whatever_the_title_says() -> None:
    text = "</script><b>&'\"\u2028</title>"
    content = page(Report(text, facts={text: text}))
    assert text not in content
    assert content.count("</title>") == 1
    assert content.count("</script>") == 4
    data = content.split('id="data">')[1].split("</script>")[0]
    assert json.loads(data)["facts"] == {text: text}


def test_that_json_holds_no_character_that_ends_a_script() -> None:
    assert not set("<>&\u2028") & set(script_json({"a<b>&": "\u2028</script>", "n": [None, 1.5]}))


def test_that_a_page_asks_nothing_of_the_network() -> None:
    content = page(Report("empty"))
    assert "http://" not in content.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in content
    assert "default-src 'none'" in content
