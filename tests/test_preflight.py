"""Tests of what is refused before a run starts, and of what is not: every finding, and none on a sound teacher."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from fine_tune import judge
from fine_tune.task import TASKS

LAD = ("run_lad_distil", "--experiment", "x", "--teacher_exp", "teacher", "--task", "sst2", "--device_id", -1)
SHORT = ("--total_step", 4, "--warmup_step", 1, "--batch_size", 8)


class Answers(NamedTuple):
    """Labels and a teacher's answers."""

    gold: np.ndarray
    guess: np.ndarray


def answers(classes: int, count: int, accuracy: float, shares: tuple[float, ...] = (), seed: int = 0) -> Answers:
    """Answers that are right with a probability, else any other class."""
    draw = np.random.default_rng(seed)
    gold = draw.choice(classes, count, p=shares or None)
    wrong = (gold + draw.integers(1, classes, count)) % classes
    return Answers(gold, np.where(draw.random(count) < accuracy, gold, wrong))


# What small teachers get right, at the least, and the share of every class.
SOUND = {
    "sst2": (0.80, (0.49, 0.51)), "qnli": (0.75, (0.5, 0.5)), "mnli": (0.60, (0.35, 0.32, 0.33)),
    "rte": (0.64, (0.53, 0.47)), "boolq": (0.70, (0.38, 0.62)), "mrpc": (0.78, (0.32, 0.68)),
    "qqp": (0.75, (0.63, 0.37)), "cola": (0.76, (0.31, 0.69)),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("count", judge.ROWS)
def test_a_sound_teacher_is_never_refused(name, count):
    """Not one of 100, whether its score was recorded or not."""
    task, (accuracy, shares) = TASKS[name], SOUND[name]
    for seed in range(100):
        given = answers(task.num_class, count, accuracy, shares, seed)
        assert judge.fault(task, *given, told=None) is None
        assert judge.fault(task, *given, told=accuracy) is None


@pytest.mark.parametrize("name", SOUND)
def test_a_teacher_that_guesses_is_refused_nearly_always(name):
    """Always if it says one thing only; if it says anything, some look as if they knew."""
    task, (_, shares) = TASKS[name], SOUND[name]
    found = 0
    for seed in range(200):
        gold = answers(task.num_class, 512, 1, shares, seed).gold
        constant = np.full_like(gold, seed % task.num_class)
        assert "nothing to do with the labels" in (judge.fault(task, gold, constant, None) or "")
        guess = answers(task.num_class, 512, 1, shares, seed + 1000).gold
        found += "nothing to do with the labels" in (judge.fault(task, gold, guess, None) or "")
    assert found >= 170


def test_classes_in_another_order_are_named():
    gold, guess = answers(3, 256, 0.9)
    told = judge.fault(TASKS["mnli"], gold, np.array([1, 2, 0])[guess], None)
    assert told and "its classes have another order than the data's" in told
    assert "entailment means contradiction, neutral means entailment, contradiction means neutral" in told
    assert judge.fault(TASKS["mnli"], gold, guess, None) is None


@pytest.mark.parametrize(("seen", "count", "refused"), [(0.90, 128, False), (0.85, 128, False), (0.6, 128, True)])
def test_far_fewer_right_than_recorded_is_refused(seen, count, refused):
    gold = np.arange(count) % 2
    guess = np.where(np.arange(count) < round(seen * count), gold, 1 - gold)
    assert ("where 0.900 is recorded" in (judge.fault(TASKS["sst2"], gold, guess, 0.9) or "")) == refused


def test_a_regression_is_judged_by_its_correlation():
    draw, task = np.random.default_rng(0), TASKS["stsb"]
    gold, noise = draw.uniform(0, 5, 256), draw.normal(0, 2, 256)
    assert judge.fault(task, gold, gold + noise, None) is None
    assert "nothing to do" in (judge.fault(task, gold, noise, None) or "")
    assert "nothing to do" in (judge.fault(task, gold, np.ones(256), None) or "")
    assert "nothing to do" in (judge.fault(task, gold, -gold, None) or "")
    assert "is recorded" in (judge.fault(task, gold, gold + 2 * noise, 0.9) or "")


@pytest.fixture
def large(data):
    """400 dev rows, half of them of either class."""
    data.write("sst2", train=24, dev=400)
    return data


def swap(file, name, change):
    """Change one tensor of a checkpoint."""
    state = torch.load(file, weights_only=True)
    state[name] = change(state[name])
    torch.save(state, file)
