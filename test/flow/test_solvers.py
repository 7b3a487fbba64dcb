import math
from typing import Any, Never

import pytest
import torch
from torch import Tensor

from dfm_vla_ros.errors import FlowError
from dfm_vla_ros.flow import (
    Denoiser,
    MetricPath,
    MixturePath,
    OrderedDistance,
    Path,
    Prediction,
    Solver,
    SolverConfig,
    decoding,
    per_position,
)
from dfm_vla_ros.flow.sampling import Draw, Noise

K, N = 16, 6
METRIC = MetricPath(OrderedDistance(torch.linspace(0.0, 1.0, K), scale=8.0))
MIXTURE = MixturePath(K)
both_paths = pytest.mark.parametrize("path", [METRIC, MIXTURE], ids=["metric", "mixture"])
every_choice = pytest.mark.parametrize("target", ["median", "argmax", "sample", "mean"])


def draw(batch: int, count: int) -> Draw:
    return Noise([0] * batch if batch < 10 else None, (batch, count), torch.device("cpu")).draw()


def vague(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
    """A denoiser that depends on every token, elementwise, so batches do not matter."""
    phase = tokens.unsqueeze(-1) * 0.7 + torch.arange(K) * 1.3 + t.view(-1, 1, 1)
    return 2.0 * torch.sin(phase)


def certain_of(answer: Tensor, nats: float = 30.0) -> Denoiser:
    def denoise(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
        return nats * torch.nn.functional.one_hot(answer, K).float().expand(len(tokens), -1, -1)

    return denoise


@both_paths
@every_choice
def test_that_a_certain_denoiser_is_obeyed(path: Path, target: str) -> None:
    answer = torch.tensor([[3, 0, 15, 7, 7, 1]])
    solution = Solver(path, SolverConfig(target=target))(certain_of(answer), (4, N))
    assert torch.equal(solution.tokens, answer.expand(4, N))
    assert solution.evaluations == 16


@pytest.mark.parametrize("refinement", [0, 1, 8, 16])
def test_that_any_split_of_refinement_and_validation_is_walked(refinement: int) -> None:
    asked = []

    def denoise(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
        asked.append(t[0].item())
        return vague(tokens, t, prefix)

    config = SolverConfig(refinement, 16 - refinement, target="sample")
    solution = Solver(METRIC, config)(denoise, (2, N), trace=True)
    assert asked == pytest.approx([k / 16 for k in range(16)])
    kinds = [step.kind for step in solution.trace]
    assert kinds == ["refinement"] * refinement + ["validation"] * (16 - refinement)


def test_that_a_time_grid_need_not_be_uniform() -> None:
    asked = []

    def denoise(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
        asked.append(t[0].item())
        return vague(tokens, t, prefix)

    Solver(METRIC, SolverConfig(3, 2, time_grid=(0.0, 0.1, 0.3, 0.8)))(denoise, (1, N))
    assert asked == pytest.approx([0.0, 0.1, 0.3, 0.8, 0.9])


@pytest.mark.parametrize("path", [METRIC, MIXTURE], ids=["metric", "mixture"])
def test_that_a_token_jumps_with_probability_one_minus_exp_of_minus_h_lambda(path: Path) -> None:
    start, answer, many = 12, 3, 20_000
    grid = (0.3, 0.35)
    solver = Solver(path, SolverConfig(1, 0, target="argmax", time_grid=grid))
    tokens, numbers = torch.full((many, 1), start), draw(many, 1)
    logits = certain_of(torch.tensor([[answer]]))(tokens, None, None)
    moved = solver.advance(tokens, Prediction(logits), solver.steps[0], numbers).tokens != start
    where = torch.tensor([[start]]), torch.tensor([[answer]]), torch.tensor([0.3])
    expected = 1.0 - math.exp(-0.05 * float(path.rates(*where).sum()))
    assert 0.05 < expected < 0.95
    assert moved.float().mean().item() == pytest.approx(expected, abs=4 * 0.5 / math.sqrt(many))


def test_that_a_head_jumps_at_its_own_rate_to_another_token() -> None:
    many, rate = 20_000, 3.0
    solver = Solver(MIXTURE, SolverConfig(1, 0, target="sample", time_grid=(0.2, 0.5)))
    tokens = torch.full((many, 1), 5)
    logits = torch.zeros(many, 1, K)
    logits[..., 5] = 50.0  # masked out, for a replacement is another token
    prediction = Prediction(logits, torch.full((many, 1), rate))
    after = solver.advance(tokens, prediction, solver.steps[0], draw(many, 1)).tokens
    moved = after != 5
    assert moved.float().mean().item() == pytest.approx(1 - math.exp(-0.9), abs=0.015)
    shares = torch.bincount(after[moved], minlength=K) / moved.sum()
    torch.testing.assert_close(shares[:5], torch.full((5,), 1 / (K - 1)), atol=0.01, rtol=0.0)


@both_paths
def test_that_a_token_that_equals_its_target_stays(path: Path) -> None:
    answer = torch.tensor([[3, 0, 15, 7, 7, 1]])
    config = SolverConfig(14, 0, target="argmax", time_grid=[k / 14 for k in range(15)])
    solver = Solver(path, config)
    for step in solver.steps:
        logits = certain_of(answer)(answer, None, None)
        moved = solver.advance(answer, Prediction(logits), step, draw(1, N))
        assert torch.equal(moved.tokens, answer)
        assert float(moved.rates.max()) == 0.0


@both_paths
@every_choice
def test_that_committed_positions_survive_every_step(path: Path, target: str) -> None:
    mask = torch.tensor([True, False, True, False, False, True])
    tokens = torch.tensor([9, 0, 2, 0, 0, 15])
    answer = torch.tensor([[0, 5, 11, 5, 5, 3]])  # the denoiser wants others
    solver = Solver(path, SolverConfig(target=target))
    for denoiser in (certain_of(answer), vague):
        trace = solver(denoiser, (5, N), committed=(mask, tokens), trace=True).trace
        assert len(trace) == 16
        for step in trace:
            assert torch.equal(step.tokens[:, mask], tokens[mask].expand(5, 3))
            assert not bool(step.jumped[:, mask].any())


def test_that_committed_positions_may_differ_within_a_batch_and_reach_the_denoiser() -> None:
    mask = torch.zeros(2, N, dtype=torch.bool)
    mask[0, 0] = mask[1, 5] = True
    tokens = torch.full((2, N), 4)

    def denoise(noised: Tensor, t: Tensor, prefix: Any) -> Tensor:
        assert torch.equal(noised[mask], tokens[mask])
        return vague(noised, t, prefix)

    Solver(METRIC)(denoise, (2, N), committed=(mask, tokens))


@both_paths
@every_choice
@pytest.mark.parametrize("t0", [0.5, 0.8, 0.99, 1.0])
def test_that_a_warm_start_from_the_answer_keeps_it(path: Path, target: str, t0: float) -> None:
    answer = torch.tensor([[3, 0, 15, 7, 7, 1]])
    solver = Solver(path, SolverConfig(target=target))
    solution = solver(certain_of(answer), (1, N), start=(answer, t0))
    assert torch.equal(solution.tokens, answer)
    assert solution.evaluations == 2 + sum(k / 16 > t0 for k in range(1, 15))


def test_that_a_warm_start_re_noises_to_its_time() -> None:
    answer = torch.full((2000, N), 8)
    seen = []

    def denoise(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
        seen.append((t[0].item(), tokens))
        return vague(tokens, t, prefix)

    Solver(METRIC)(denoise, (2000, N), start=(answer, 0.4))
    first, tokens = seen[0]
    assert first == pytest.approx(0.4)
    expected = METRIC.log_prob(answer[:1, :1], torch.tensor([0.4]))[0, 0].exp()
    shares = torch.bincount(tokens.flatten(), minlength=K) / tokens.numel()
    torch.testing.assert_close(shares, expected, atol=0.01, rtol=0.0)


@both_paths
@every_choice
def test_that_a_seed_gives_the_same_sample_in_a_batch_of_1_and_of_32(
    path: Path, target: str
) -> None:
    solver = Solver(path, SolverConfig(target=target))
    together = solver(vague, (32, N), generators=list(range(32))).tokens
    for seed in (0, 7, 31):
        assert torch.equal(solver(vague, (1, N), generators=[seed]).tokens[0], together[seed])
    if target == "sample":
        assert len(together.unique(dim=0)) > 16


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@both_paths
@every_choice
def test_that_a_seed_gives_the_same_sample_on_a_gpu(path: Path, target: str) -> None:
    logits = vague(torch.arange(N).unsqueeze(0), torch.zeros(1), None)
    solutions = [
        Solver(path.to(device), SolverConfig(target=target))(
            lambda tokens, t, prefix: logits.to(tokens.device).expand(len(tokens), -1, -1),
            (8, N),
            generators=list(range(8)),
        ).tokens.cpu()
        for device in ("cpu", "cuda")
    ]
    assert torch.equal(*solutions)


def test_that_early_stop_changes_no_token_of_a_denoiser_without_time() -> None:
    denoiser = certain_of(torch.tensor([[3, 0, 15, 7, 7, 1]]), nats=4.0)
    solutions = [
        Solver(METRIC, SolverConfig(28, 4, target="argmax", early_stop=early_stop))(
            denoiser, (8, N), generators=list(range(8))
        )
        for early_stop in (False, True)
    ]
    assert torch.equal(solutions[0].tokens, solutions[1].tokens)
    assert solutions[0].evaluations == 32
    assert solutions[1].evaluations < 32


def test_that_early_stop_ends_when_every_sample_is_a_fixed_point() -> None:
    answer = torch.tensor([[3, 0, 15, 7, 7, 1]])
    solver = Solver(METRIC, SolverConfig(early_stop=True))
    settled = solver(certain_of(answer), (3, N), start=(answer.expand(3, N), 1.0 - 1e-6))
    assert settled.evaluations == 1
    from_noise = solver(certain_of(answer), (3, N), generators=[0, 1, 2], trace=True)
    assert 1 < from_noise.evaluations < 16
    assert torch.equal(from_noise.trace[-1].tokens, answer.expand(3, N))
    assert not torch.equal(from_noise.trace[-3].tokens, answer.expand(3, N))


@pytest.mark.parametrize("early_stop", [False, True])
def test_that_a_sample_that_has_settled_waits_unchanged_for_the_others(early_stop: bool) -> None:
    answer = torch.tensor([[3, 0, 15, 7, 7, 1]])

    def denoise(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
        logits = certain_of(answer)(tokens, t, prefix).clone()
        logits[1] = certain_of((tokens[1:] + 1) % K)(tokens[1:], t, prefix)  # never settles
        if t[0] > 0.93:  # a change of mind in the last validation
            logits[0] = certain_of(15 - answer)(tokens[:1], t, prefix)
        return logits

    solver = Solver(METRIC, SolverConfig(early_stop=early_stop, target="argmax"))
    solution = solver(denoise, (2, N), generators=[0, 1])
    assert solution.evaluations == 16
    assert torch.equal(solution.tokens[:1], answer if early_stop else 15 - answer)


def test_that_committed_positions_do_not_delay_an_early_stop() -> None:
    answer = torch.tensor([[3, 0, 15, 7, 7, 1]])
    other = answer.clone()
    other[0, 0] = 9
    mask = torch.tensor([True] + [False] * (N - 1))
    solver = Solver(METRIC, SolverConfig(early_stop=True))
    solution = solver(certain_of(answer), (1, N), committed=(mask, other[0]), start=(other, 1.0))
    assert solution.evaluations == 1
    assert torch.equal(solution.tokens, other)


def test_that_a_trace_shows_tokens_targets_rates_jumps_and_confidence() -> None:
    solution = Solver(METRIC)(vague, (2, N), generators=[0, 1], trace=True)
    assert len(solution.trace) == solution.evaluations
    assert torch.equal(solution.trace[-1].tokens, solution.tokens)
    for before, step in zip(solution.trace, solution.trace[1:], strict=False):
        assert torch.equal(step.jumped, before.tokens != step.tokens)
        prob = torch.softmax(vague(before.tokens, torch.full((2,), step.t), None), -1)
        expected = prob.gather(-1, step.target.unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(step.confidence, expected)
        if step.kind == "refinement":
            rates = METRIC.rates(before.tokens, step.target, torch.full((2,), step.t)).sum(-1)
            torch.testing.assert_close(step.rates, rates, rtol=1e-4, atol=1e-4)
        else:
            assert torch.equal(step.tokens, step.target)


def test_that_no_trace_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Never:
        raise AssertionError("recorded without being asked")

    monkeypatch.setattr(decoding, "_record", fail)
    assert Solver(METRIC)(vague, (1, N)).trace == ()


def test_that_the_prefix_reaches_the_denoiser_untouched() -> None:
    cache = object()

    def denoise(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
        assert prefix is cache
        assert tokens.dtype == torch.int64
        assert t.dtype == torch.float32
        assert t.shape == (2,)
        return vague(tokens, t, prefix)

    Solver(METRIC)(denoise, (2, N), cache)


def test_that_a_gripper_position_gets_gripper_tokens_alone() -> None:
    kinds = [METRIC.distance, OrderedDistance([0.0, 1.0], 8.0)]
    path = MetricPath(per_position(kinds, [0, 0, 1, 0, 0, 1]))
    for target in ("median", "argmax", "sample"):
        tokens = Solver(path, SolverConfig(target=target))(vague, (200, N)).tokens
        assert tokens[:, [2, 5]].max() <= 1
        assert tokens[:, [0, 1]].max() > 1


def test_that_median_refines_towards_the_middle_and_sample_towards_the_modes() -> None:
    logits = torch.full((K,), -30.0)
    logits[[2, 3, 12]] = torch.tensor([0.0, 0.0, 0.1])

    def two_modes(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
        return logits.expand(*tokens.shape, K)

    median = Solver(METRIC)(two_modes, (200, 1)).tokens
    sampled = Solver(MIXTURE, SolverConfig(64, 0, target="sample"))(two_modes, (2000, 1)).tokens
    assert median.unique().tolist() == [3]
    seen = torch.bincount(sampled[:, 0], minlength=K)[[2, 3, 12]] / 2000
    torch.testing.assert_close(seen, torch.softmax(logits[[2, 3, 12]], 0), atol=0.05, rtol=0.0)


def test_that_a_prediction_that_settles_within_so_many_tokens_ends_the_sample() -> None:
    wobble = {0: 5, 1: 9, 2: 10, 3: 9}
    calls = []

    def denoise(tokens: torch.Tensor, t: torch.Tensor, prefix: object) -> torch.Tensor:
        logits = torch.zeros(*tokens.shape, METRIC.vocabulary)
        logits[..., wobble.get(len(calls), 9)] = 50.0
        calls.append(tokens)
        return logits

    config = SolverConfig(14, 2, target="median", early_stop=True, early_stop_within=1)
    solution = Solver(METRIC, config)(denoise, (2, 4), generators=[0, 1])
    assert solution.evaluations == 3  # 5, 9, 10: the first step of at most one token
    assert (solution.tokens == 10).all()


def test_that_settling_keeps_committed_tokens_and_each_samples_own_answer() -> None:
    def denoise(tokens: torch.Tensor, t: torch.Tensor, prefix: object) -> torch.Tensor:
        calls.append(1)
        logits = torch.zeros(*tokens.shape, METRIC.vocabulary)
        logits[0, :, 3] = 50.0
        logits[1, :, 3 + min(len(calls), 4) * 2] = 50.0
        return logits

    calls: list[int] = []
    config = SolverConfig(14, 2, target="median", early_stop=True, early_stop_within=0)
    committed = (torch.tensor([True, False, False, False]), torch.tensor([7, 0, 0, 0]))
    solution = Solver(METRIC, config)(denoise, (2, 4), generators=[0, 1], committed=committed)
    assert solution.tokens.tolist() == [[7, 3, 3, 3], [7, 11, 11, 11]]
    assert solution.evaluations == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"early_stop_within": 1}, "give 0 or more, with early_stop"),
        ({"early_stop": True, "early_stop_within": -1}, "early_stop_within is -1"),
        (
            {"early_stop": True, "early_stop_within": 1, "target": "sample"},
            "choose target and validation_target alike",
        ),
    ],
)
def test_that_settling_refuses_settings_that_make_no_sense(settings: dict, message: str) -> None:
    with pytest.raises(FlowError, match=message):
        SolverConfig(**settings)
