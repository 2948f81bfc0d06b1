"""Checks whether a teacher knows its task, on some hundred labelled rows, before a student learns from it.

It reads rows in growing portions until the result is clear, for a few seconds at most. A teacher is refused only on
evidence: it answers like chance, it would be right with its classes swapped, or its score is far below the recorded
one. If the rows do not decide, it is accepted.
"""

import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fine_tune.data.tokens import Split
from fine_tune.hardware.device import to_device
from fine_tune.model.load import Loaded
from fine_tune.run.history import read_scores
from fine_tune.scores.metrics import decide, metric
from fine_tune.tasks.table import Task

logger = logging.getLogger(__name__)

SECONDS = 6.0
ROWS = (32, 64, 128, 256, 512, 1024, 2048)
"""Rows after which the answers are looked at."""
ENOUGH = 256
"""From this many rows on a teacher may be refused as one that guesses; from half as many if it has one answer only."""
GAIN, LEAST = 0.04, 0.2
"""What a weak teacher has learned: accuracy above the largest class's share, or correlation."""
RARE = 0.005
"""A teacher is refused as one that guesses if a weak one scored as low with this probability at the most."""
SURE = 0.99
"""A recorded accuracy above this counts as this: rounding may turn one row in some hundred."""
CLEAR, DOUBT = 1e-6, 0.05
"""Below the first p a finding is clear; above the second, answers and labels may have nothing in common."""

Answers = NDArray[Any]


def judge(teacher: Loaded, split: Split, device: torch.device) -> None:
    """Refuse a teacher that answers like chance, confuses its classes, or is not what its record says.

    Args:
        teacher: The teacher, on `device`.
        split: Labelled rows.
        device: Its place.

    Raises:
        ValueError: With what was seen.
    """
    assert split.label is not None
    teacher.model.to(device)
    order, start = np.random.default_rng(0).permutation(len(split)), 0.0
    told, name = recorded(teacher, split), f"teacher {teacher.folder.name}, checkpoint {teacher.step}"
    idle = 0.0 if split.task.regression else share_of_largest(split.label)
    answers: list[Answers] = []
    for begin, end in itertools.pairwise((0, *ROWS)):
        rows = order[begin:end]
        answers.append(ask(teacher, split, rows, device))
        start = start or time.monotonic()  # the first rows are a warm-up
        gold, guess = split.label[order[:end]], np.concatenate(answers)
        if why := fault(split.task, gold, guess, told, idle):
            raise ValueError(f"{name}: {why}; it was judged on {len(gold)} rows of {split.name}")
        settled = p_association(split.task, gold, guess) < CLEAR
        if settled and end >= ENOUGH:
            return
        all_read = end >= min(len(split), ROWS[-1])
        if all_read or 2 * (time.monotonic() - start) > SECONDS:  # the next rows would double it
            if not settled:
                more = "" if all_read else "; more would take too long"
                what = "too few to tell whether it knows its task"
                logger.warning("%s: %d rows of %s are %s%s", name, len(gold), split.name, what, more)
            return


@torch.no_grad()
def ask(teacher: Loaded, split: Split, rows: NDArray[np.int64], device: torch.device) -> Answers:
    """Give the teacher's answers to some rows."""
    answers = np.zeros((len(rows), split.task.num_class) if split.task.multi else len(rows), np.float64)
    by_length = np.argsort(split.lengths[rows], kind="stable")
    for part in np.array_split(by_length, max(1, len(rows) // 32)):
        logits = teacher.model(**to_device(split.inputs(rows[part]), device)).logits.cpu()
        answers[part] = decide(split.task, logits)
    return answers


def recorded(teacher: Loaded, split: Split) -> float | None:
    """Give the accuracy, or correlation, that an earlier evaluation of the checkpoint on this split has recorded."""
    file = teacher.folder / f"eval_{split.name}.json"
    scores = read_scores(file) if file.is_file() else {}
    name = "pearson" if split.task.regression else "accuracy"
    return scores.get(f"{split.name}/{name}", {}).get(teacher.step)


def fault(task: Task, gold: Answers, guess: Answers, told: float | None, idle: float | None = None) -> str | None:
    """Say what is wrong with answers, if it is clear.

    Args:
        task: The task.
        gold: (N,) labels, or (N, C) of 1 and 0 where several may hold.
        guess: Answers, alike.
        told: What was recorded.
        idle: Score of the largest class alone; by default on these rows.
    """
    seen = float(metric("pearson" if task.regression else "accuracy")(gold, guess))
    name = "correlation" if task.regression else "accuracy"
    if told is not None and p_as_low(task, seen, told, len(gold)) < CLEAR:
        return f"{name} {seen:.3f}, where {told:.3f} is recorded: are weights, tokenizer and data what they were?"
    chance = p_association(task, gold, guess)
    if task.kind == "single" and chance < CLEAR and (order := better_order(task.num_class, gold, guess)):
        words = ", ".join(
            f"{task.labels[own]} means {task.labels[real]}" for own, real in enumerate(order) if own != real
        )
        better = metric("accuracy")(gold, np.array(order)[guess.astype(int)])
        return f"accuracy {seen:.3f}, but {better:.3f} if {words}: its classes have another order than the data's"
    if idle is None:
        idle = 0.0 if task.regression else share_of_largest(gold)
    weak = LEAST if task.regression else idle + GAIN
    same = not np.ptp(guess, axis=0).any()
    guesses = same or p_as_low(task, max(seen, told or 0), weak, len(gold)) < RARE
    if len(gold) >= (ENOUGH // 2 if same else ENOUGH) and chance > DOUBT and guesses and (told or 0) < weak:
        largest = "most frequent set of labels" if task.multi else "largest class"
        common = "" if task.regression else f", the {largest} alone {idle:.3f}"
        what = f"its answers have nothing to do with the labels; was it fine-tuned on {task.name}?"
        return f"{name} {seen:.3f}{common}: {what} Train it longer, or take another checkpoint (--tckpt)"
    return None


def share_of_largest(gold: Answers) -> float:
    """Share of the most frequent class; of several labels, of the most frequent set of them."""
    return float(np.unique(gold, axis=0, return_counts=True)[1].max() / len(gold))


def p_association(task: Task, gold: Answers, guess: Answers) -> float:
    """Probability that answers fit the labels this well by chance; of several labels, those of the clearest one."""
    from scipy import stats

    if task.multi:  # by Bonferroni, as each of them is looked at
        one = replace(task, labels=("no", "yes"), multi=False)
        return float(
            min(1.0, gold.shape[1] * min(p_association(one, *pair) for pair in zip(gold.T, guess.T, strict=True)))
        )
    if np.ptp(gold) == 0 or np.ptp(guess) == 0:
        return 1.0
    if task.regression:
        return float(stats.pearsonr(gold, guess, alternative="greater").pvalue)
    table = np.zeros((task.num_class, task.num_class))
    np.add.at(table, (gold.astype(int), guess.astype(int)), 1)
    table = table[table.any(1)][:, table.any(0)]
    return float(stats.chi2_contingency(table, correction=False).pvalue)


def p_as_low(task: Task, seen: float, told: float, count: int) -> float:
    """Probability of a score as low as `seen` on `count` rows if the true one is `told`."""
    from scipy import stats

    if task.regression:
        lift = np.arctanh(np.clip([seen, told], -0.999, 0.999))
        return float(stats.norm.cdf((lift[0] - lift[1]) * np.sqrt(max(count - 3, 1))))
    return float(stats.binom.cdf(round(seen * count), count, min(told, SURE)))


def better_order(classes: int, gold: Answers, guess: Answers) -> Sequence[int] | None:
    """Find the order of the classes in which the answers score clearly best, if there is one."""
    from scipy import optimize, stats

    def right(order: Sequence[int]) -> Answers:
        answers: Answers = np.equal(gold, np.array(order)[guess.astype(int)])
        return answers

    plain = right(range(classes))
    table = np.zeros((classes, classes))
    np.add.at(table, (guess.astype(int), gold.astype(int)), 1)
    best: list[int] = optimize.linear_sum_assignment(table, maximize=True)[1].tolist()
    better, worse = int((right(best) & ~plain).sum()), int((plain & ~right(best)).sum())
    if better > worse and stats.binomtest(better, better + worse, alternative="greater").pvalue < CLEAR:
        return best
    return None
