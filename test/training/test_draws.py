"""Randomness is a function of seed and step."""

from __future__ import annotations

import torch

from dfm_vla_ros.training.objectives import Draws, parts


def test_that_an_epoch_takes_every_sample_once() -> None:
    taken = torch.cat([Draws(3, step, 4, range(4)).samples(10) for step in range(1, 11)])
    for epoch in taken.split(10):
        assert sorted(epoch.tolist()) == list(range(10))
    assert not torch.equal(taken[:10], taken[10:20])


def test_that_processes_and_parts_draw_what_one_would() -> None:
    whole = Draws(1, 5, 12, range(12))
    shares = [share for process in range(2) for share in parts(1, 5, 12, process, 2, 3)]
    assert [len(share.rows) for share in shares] == [2] * 6
    joined = torch.cat([share.uniform("noise", (3,)) for share in shares])
    assert torch.equal(joined, whole.uniform("noise", (3,)))
    samples = torch.cat([share.samples(100) for share in shares])
    assert torch.equal(samples, whole.samples(100))


def test_that_steps_seeds_and_purposes_have_streams_of_their_own() -> None:
    numbers = {
        tuple(Draws(seed, step, 2, range(2)).uniform(purpose, ()).tolist())
        for seed in (0, 1)
        for step in (1, 2)
        for purpose in ("time", "noise")
    }
    assert len(numbers) == 8
