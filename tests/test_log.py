"""Tests of what a training run tells: collapsing targets, once."""

import json

import pytest
import torch

from fine_tune.flags.shared import Pace
from fine_tune.model.gate import spread
from fine_tune.run.optim import Updater
from fine_tune.run.session import Session, Work
from fine_tune.train.gate_setup import COLLAPSED, SpreadWatch


def enter(folder, caplog, spreads, watch):
    """Make log entries with these spreads; gives the updates at which a warning came."""
    (folder / "run.json").write_text("{}", encoding="utf-8")
    work = Work({}, {"": torch.device("cpu")}, Updater({}), lambda done: iter([]), watch=watch)
    warned = []
    with Session(work, folder, folder / "log", Pace(log_step=1), total_step=10) as session:
        for step, value in zip(session.steps(), spreads, strict=False):
            caplog.clear()
            seen = {} if value is None else {"target_spread": torch.tensor(value)}
            session.add(1.0, loss=torch.tensor(1.0), **seen)
            session.record({"lr": 0.1})
            warned += [step] * len([line for line in caplog.messages if "collapse" in line])
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["step"], line["lr"]) for line in logged] == [(step, 0.1) for step in range(1, len(spreads) + 1)]
    assert [line.get("target_spread") for line in logged] == [value and pytest.approx(value) for value in spreads]
    return warned


def test_targets_that_collapse_are_told_once(tmp_path, caplog):
    first = 0.8
    spreads = [first, first * (COLLAPSED + 0.01), first * (COLLAPSED - 0.01), 0.1, 0.01]
    assert enter(tmp_path, caplog, spreads, SpreadWatch()) == [3]


def test_targets_that_stay_apart_are_not_told(tmp_path, caplog):
    assert enter(tmp_path, caplog, [0.5, 0.45, 0.7, 0.6], SpreadWatch()) == []


def test_a_method_without_gates_has_nothing_to_tell(tmp_path, caplog):
    assert enter(tmp_path, caplog, [None, None], None) == []


@pytest.mark.parametrize(("spreads", "warns"), [((), False), ((0.8,), True), ((0.8, 0.1), False)])
def test_a_watch_continues_from_its_state(spreads, warns, caplog):
    """It remembers the first spread, and whether it has warned."""
    before, after = SpreadWatch(), SpreadWatch()
    for step, value in enumerate(spreads, start=1):
        before(step, {"target_spread": value})
    after.restore(before.state() | {"meter": "of others"})
    caplog.clear()
    after(9, {"target_spread": 0.5})
    assert any("by update 9" in line and "collapse" in line for line in caplog.messages) == warns


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
