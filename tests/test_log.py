"""Tests of what a training run tells: collapsing targets, once."""

import pytest
import torch

from fine_tune.flags.shared import Pace
from fine_tune.model.gate import spread
from fine_tune.run.session import TrainLog
from fine_tune.train.gates import COLLAPSED


@pytest.fixture
def log(tmp_path):
    with TrainLog(tmp_path, tmp_path / "log", Pace(log_step=1), total_step=10) as opened:
        yield opened


def enter(log, caplog, spreads):
    """Log entries with these spreads; gives the steps at which a warning came."""
    warned = []
    for step, value in enumerate(spreads, start=1):
        caplog.clear()
        log.add(1.0, loss=torch.tensor(1.0), **({} if value is None else {"target_spread": torch.tensor(value)}))
        log.update(step, {"lr": 0.1})
        warned += [step] * len([line for line in caplog.messages if "collapse" in line])
    return warned


def test_targets_that_collapse_are_told_once(log, caplog):
    first = 0.8
    assert enter(log, caplog, [first, first * (COLLAPSED + 0.01), first * (COLLAPSED - 0.01), 0.1, 0.01]) == [3]


def test_targets_that_stay_apart_are_not_told(log, caplog):
    assert enter(log, caplog, [0.5, 0.45, 0.7, 0.6]) == []


def test_a_method_without_gates_has_nothing_to_tell(log, caplog):
    assert enter(log, caplog, [None, None]) == []


def test_spread_is_the_share_beside_the_common_mean():
    same = torch.randn(1, 1, 6).expand(3, 5, 6)
    assert spread(same, None) == pytest.approx(0, abs=1e-6)
    apart = torch.eye(6)[:4].view(2, 2, 6)
    assert spread(apart, None) == pytest.approx(1 - 4 * (1 / 4) ** 2)
    assert spread(torch.cat([apart, -apart]), None) == pytest.approx(1)


def test_spread_leaves_padding_out():
    vectors, mask = torch.randn(2, 5, 6), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    real = torch.cat([vectors[0, :3], vectors[1]]).unsqueeze(0)
    vectors[0, 3:] = 100
    assert spread(vectors, mask) == pytest.approx(spread(real, None).item(), rel=1e-5)
