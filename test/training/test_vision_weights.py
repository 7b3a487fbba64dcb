"""What the image tokenizer takes for an object: what moves, not what the table's colour is."""

from __future__ import annotations

import torch

from dfm_vla_ros.training.vision import deviations


def test_that_an_object_stands_out_from_tables_of_any_colour() -> None:
    torch.manual_seed(0)
    tables = torch.randint(60, 190, (30, 1, 1, 3), dtype=torch.uint8)
    frames = tables.repeat(1, 16, 16, 1)
    for number, frame in enumerate(frames):
        at = number % 12
        frame[at : at + 3, at : at + 3] = torch.tensor([250, 10, 10], dtype=torch.uint8)
    found = torch.cat(list(deviations(frames, batch=7)))
    assert found.shape == (30, 16, 16)
    for number, deviation in enumerate(found):
        at = number % 12
        inside = torch.zeros(16, 16, dtype=torch.bool)
        inside[at : at + 3, at : at + 3] = True
        assert int(deviation[inside].min()) >= 50
        assert int(deviation[~inside].max()) == 0
