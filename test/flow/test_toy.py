import json
import math
from pathlib import Path

import pytest
import torch

from dfm_vla_ros.cli import main
from dfm_vla_ros.flow import FlowError
from dfm_vla_ros.flow.toy.data import MirroredWalk, spread
from dfm_vla_ros.flow.toy.experiment import DECODERS, Cell, ToyConfig, Trained, measure
from dfm_vla_ros.flow.toy.network import ToyNetwork

WALK = MirroredWalk(length=8, levels=4)


@pytest.mark.parametrize("shuffled", [False, True])
def test_that_drawn_walks_keep_their_own_constraints(
    shuffled: bool, generator: torch.Generator
) -> None:
    walk = MirroredWalk(length=12, levels=6, shuffled=shuffled)
    tokens = walk.draw(500, generator)
    assert bool(walk.valid(tokens).all())
    assert tokens.unique().tolist() == list(range(6))
    assert len(tokens.unique(dim=0)) > 300


def test_that_a_broken_mirror_and_a_leap_are_not_valid() -> None:
    walk = MirroredWalk(length=6, levels=5)
    sequences = torch.tensor([[1, 2, 3, 3, 2, 1], [1, 2, 3, 3, 2, 2], [0, 2, 2, 2, 2, 0]])
    assert walk.valid(sequences).tolist() == [True, False, False]


def test_that_spread_is_the_mean_pairwise_difference(generator: torch.Generator) -> None:
    tokens = torch.randint(4, (30, 7), generator=generator)
    pairs = [(i, j) for i in range(30) for j in range(30) if i != j]
    expected = sum(float((tokens[i] != tokens[j]).float().mean()) for i, j in pairs) / len(pairs)
    assert spread(tokens, 4) == pytest.approx(expected)
    assert spread(torch.zeros(5, 7, dtype=torch.int64), 4) == 0.0
    assert math.isnan(spread(tokens[:1], 4))


@pytest.mark.parametrize("group", [1, 2, 4])
def test_that_an_autoregressive_network_sees_earlier_groups_alone(group: int) -> None:
    torch.manual_seed(0)
    network = ToyNetwork(8, 4, width=16, group=group).eval()
    tokens = torch.randint(4, (1, 8))
    changed = tokens.clone()
    changed[0, 4] = (tokens[0, 4] + 1) % 4
    before, after = (network(each, torch.zeros(1))[0][0] for each in (tokens, changed))
    same = [torch.allclose(a, b, atol=1e-6) for a, b in zip(before, after, strict=True)]
    first_seen = 4 + group  # the group of position 4 starts there, and sees itself not
    assert same == [i < first_seen for i in range(8)]


def test_that_a_refining_network_sees_every_position_and_the_time() -> None:
    torch.manual_seed(0)
    network = ToyNetwork(8, 4, width=16).eval()
    tokens, t = torch.zeros(1, 8, dtype=torch.int64), torch.zeros(1)
    changed = tokens.clone()
    changed[0, 7] = 1
    base = network(tokens, t)[0]
    assert not torch.allclose(base[0, 0], network(changed, t)[0][0, 0], atol=1e-6)
    assert not torch.allclose(base, network(tokens, t + 0.5)[0], atol=1e-6)


@pytest.mark.slow
def test_that_every_decoder_learns_something_of_a_small_walk() -> None:
    trained = Trained(ToyConfig(WALK, steps=120, batch=64, samples=300), seed=0)
    cells = {name: measure(trained, name, 8) for name in DECODERS if name != "one step"}
    chance = len(WALK.draw(4000, torch.Generator().manual_seed(0)).unique(dim=0)) / 4**8
    for name, cell in cells.items():
        assert cell.evaluations == 8, name
        assert cell.validity > 20 * chance, name
        assert 0.5 < cell.diversity < 1.2, name
    one_step = measure(trained, "one step", 1)
    assert one_step.evaluations == 1
    assert one_step.validity < min(cell.validity for cell in cells.values())


def test_that_a_seed_repeats_a_cell() -> None:
    config = ToyConfig(WALK, steps=20, batch=16, samples=50)
    first, second = (measure(Trained(config, seed=3), "embed", 4) for _ in range(2))
    assert (first.validity, first.distinct) == (second.validity, second.distinct)


def test_that_the_command_prints_a_table_and_writes_its_cells(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "toy.json"
    arguments = ["toy", "--steps", "2", "--samples", "8", "--seeds", "2", "--json", str(file)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    rows = [line[:13].strip() for line in printed.splitlines() if "+-" in line]
    assert rows[1:] == list(DECODERS)
    cells = [Cell(**cell) for cell in json.loads(file.read_text())["cells"]]
    assert len(cells) == 2 * (7 * 4 + 1)
    assert {cell.seed for cell in cells} == {0, 1}


def test_that_the_command_draws_every_decoder(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "images" / "flow.png"
    assert main(["toy", "--steps", "2", "--figure", str(file)]) == 0
    assert file.read_bytes().startswith(b"\x89PNG")


def test_that_an_impossible_toy_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["toy", "--seeds", "0"]) == 1
    assert "--seeds and --threads must be at least 1" in capsys.readouterr().err
    assert main(["toy", "--steps", "0"]) == 1
    assert "steps is 0; give at least 1" in capsys.readouterr().err
    with pytest.raises(FlowError, match="length 7, levels 4; give an even length"):
        MirroredWalk(length=7, levels=4)
    with pytest.raises(FlowError, match="decoder is 'beam'; choose one of AR, one step"):
        Trained(ToyConfig(WALK, steps=1), seed=0).decoder("beam", 4)
