"""What is packed into a page, without a browser."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_synthetic import run

from dfm_vla_ros.report.content import Picture, Report, ReportError
from dfm_vla_ros.report.page import Assets, page, write_report


def unpacked(assets: Assets) -> dict[str, Any]:
    """Return plots and runs as the page reads them."""
    return json.loads(zlib.decompress(base64.b64decode(assets.data())))


def test_that_values_are_kept_to_five_decimals_and_the_rest_is_null() -> None:
    assets, x = Assets(), np.array([-1.0, 1.23456789, 3600.001])
    y = np.array([np.nan, np.inf, 1e-4], dtype=np.float32)
    assets.chart("title", "rad", "time [s]", x, series=[{"y": y, "n": np.int64(3)}])
    (chart,) = unpacked(assets)["charts"]
    assert chart["x"] == [-1.0, 1.23457, 3600.001]
    assert chart["series"] == [{"y": [None, None, 0.0001], "n": 3}]
    assert chart["title"] == assets.title(0) == "title [rad]"


def test_that_what_cannot_be_shown_is_refused_by_its_kind() -> None:
    assets = Assets()
    assets.chart("", "", "", [1], series=object())
    with pytest.raises(ReportError, match="a object cannot be shown"):
        assets.data()


def test_that_equal_pictures_are_stored_once() -> None:
    assets, image = Assets(), np.full((8, 8, 3), 90, dtype=np.uint8)
    assert [assets.file(Picture.of(image)) for _ in range(2)] == [0, 0]
    assert assets.file(Picture.of(image + 9)) == 1
    first, _ = json.loads(assets.files())
    assert base64.b64decode(first["data"]) == Picture.of(image).data


def test_that_a_page_is_html_whatever_the_bag_says() -> None:
    text = "</script><b>&'\"\u2028</title>{{ 1 + 1 }}"
    evil = replace(run(), name=text, facts={text: text}, problems=(text,), films=())
    content = page(Report(text, {text: text}, (evil,)))
    assert "<b>" not in content
    assert content.count("</title>") == 1
    assert content.count("</script>") == 4
    assert content.count("{{ 1 + 1 }}") > 4


def test_that_a_page_asks_nothing_of_the_network() -> None:
    content = page(Report("empty"))
    licence = "/*! https://github.com/leeoniya/uPlot"
    assert "https://" not in content.replace(licence, "")
    assert "http://" not in content
    assert "default-src 'none'" in content


def test_that_a_page_that_cannot_be_written_names_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match=r"file/page\.html cannot be written: .*choose another"):
        write_report(Report("empty"), tmp_path / "file" / "page.html")
