"""Noise and losses of the objectives."""

from __future__ import annotations

import pytest
import torch
from demonstrations import small_run

from dfm_vla_ros.flow.losses import cross_entropy
from dfm_vla_ros.training.objectives import (
    KINDS,
    Draws,
    Objective,
    make_objective,
    parts,
    path_config,
    smoothed_labels,
)

K = 16


def objective(kind: str, **changes: object) -> Objective:
    """Return an objective over 16 tokens."""
    from pathlib import Path

    config = small_run(Path("nowhere"), objective=kind, smoothing_bins=0.0, **changes)
    return make_objective(config, K, "cpu")


def draw(kind: Objective, rows: int = 6, tokens: int = 5) -> tuple[torch.Tensor, ...]:
    """Return x_1, times and x_t."""
    draws = Draws(0, 1, rows, range(rows))
    x1 = (draws.uniform("x1", (tokens,)) * K).long()
    times = kind.times(draws)
    uniforms = draws.uniform("noise", (2, kind.replicas, tokens)).transpose(0, 1)
    return x1, times, kind.corrupt(x1, times, uniforms)


def test_that_the_first_replica_is_pure_noise_and_no_time_reaches_one() -> None:
    times = objective("embed", replicas=4).times(Draws(0, 1, 1000, range(1000)))
    assert (times[:, 0] == 0).all()
    assert times[:, 1:].max() <= 0.999
    assert times[:, 1:].mean() == pytest.approx(1 / 3, abs=0.02)


def test_that_smoothed_labels_are_distributions_around_the_label() -> None:
    labels = smoothed_labels(64, 1.5)
    assert torch.allclose(labels.sum(-1), torch.ones(64))
    assert (labels.argmax(-1) == torch.arange(64)).all()
    assert torch.equal(smoothed_labels(4, 0), torch.eye(4))


@pytest.mark.parametrize("kind", ["embed", "ar"])
def test_that_without_smoothing_the_loss_is_the_cross_entropy(kind: str) -> None:
    made = objective(kind)
    x1, times, xt = draw(made)
    logits = torch.randn(*xt.shape, K)
    repeated = x1[:, None].expand_as(xt).flatten(0, 1)
    expected = cross_entropy(logits.flatten(0, 1), repeated)
    assert made.loss(logits, xt, x1, times) / made.weight(xt) == pytest.approx(float(expected))


def test_that_a_noised_teacher_is_off_by_the_deviation_asked_for_and_within_the_vocabulary() -> (
    None
):
    made = objective("ar", teacher_noise_bins=2.0)
    draws = Draws(0, 1, 4000, range(4000))
    middle = torch.full((4000, 5), K // 2)
    xt = made.corrupt(middle, made.times(draws), draws.uniform("n", (2, 1, 5)).transpose(0, 1))
    off = (xt[:, 0] - middle).float()
    assert float(off.mean()) == pytest.approx(0, abs=0.05)
    assert float(off.std()) == pytest.approx(2.0, abs=0.1)
    assert xt.min() >= 0
    assert xt.max() < K


def test_that_without_noise_the_teacher_is_the_data() -> None:
    x1, _, xt = draw(objective("ar"))
    assert torch.equal(xt[:, 0], x1)


def test_that_masked_diffusion_counts_masked_tokens_alone() -> None:
    made = objective("masked")
    x1, times, xt = draw(made)
    masked = xt == K
    assert masked[:, 0].all()
    assert torch.equal(xt[~masked], x1[:, None].expand_as(xt)[~masked])
    assert made.weight(xt) == masked.sum()
    right = torch.nn.functional.one_hot(x1, K).float()[:, None].expand(*xt.shape, K) * 50
    wrong_where_visible = torch.where(masked[..., None], right, -right)
    assert float(made.loss(wrong_where_visible, xt, x1, times)) == pytest.approx(0, abs=1e-5)


def test_that_the_head_is_best_at_the_rate_of_the_path() -> None:
    made = objective("head", replicas=3)
    x1, times, xt = draw(made, rows=64)
    logits = torch.nn.functional.one_hot(x1, K).float()[:, None].expand(*xt.shape, K) * 30
    moved = (xt != x1[:, None]).float()

    def loss(raw: torch.Tensor) -> float:
        answer = torch.cat([logits, raw.unsqueeze(-1)], dim=-1)
        return float(made.loss(answer, xt, x1, times))

    # Who knows x_1 leaves at w_t where the token is wrong and stays where it is right.
    best = loss(20 * (2 * moved - 1))
    assert best < loss(torch.zeros_like(moved))
    assert best < loss(20 * (1 - 2 * moved))


def test_that_regression_is_on_a_scale_from_minus_one_to_one() -> None:
    made = objective("l1")
    x1 = torch.tensor([[0, K - 1, 3]])
    values = torch.tensor([[-1.0, 1.0, 2 * 3 / (K - 1) - 1]])[:, None, :, None]
    xt = made.corrupt(x1, torch.zeros(1, 1), torch.zeros(2, 1, 1, 3))
    assert (xt == K).all()
    assert float(made.loss(values, xt, x1, torch.zeros(1, 1))) == pytest.approx(0, abs=1e-6)
    assert torch.equal(made.guess(values)[:, 0], x1)


def test_that_every_objective_names_a_path_that_its_decoder_takes() -> None:
    from pathlib import Path

    kinds = {k: path_config(small_run(Path("x"), objective=k)).kind for k in KINDS}
    assert kinds == {
        "embed": "metric",
        "head": "mixture",
        "ar": "metric",
        "masked": "masked",
        "l1": "masked",
    }


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
