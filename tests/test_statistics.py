"""Tests of the statistics: numbers worked out by hand, cases whose answer is known, and what is promised of p."""

import math

import numpy as np
import pytest
from scipy import stats

from fine_tune.compare.statistics import (
    bootstrap_p,
    holm,
    interval,
    mcnemar_p,
    mean_and_sd,
    resample_accuracy,
    resample_correlation,
)
from fine_tune.scores.metrics import metric


def runs(skill, seeds=3, rows=400, seed=0, seed_noise=0.0):
    """Whether runs of methods are right: easy and hard rows, methods of a skill each, runs with noise of their own."""
    draw = np.random.default_rng(seed)
    easy = draw.normal(1.2, 1, rows)
    noise = draw.normal(0, 0.5, (len(skill), 1, rows)) + draw.normal(0, 0.5, (len(skill), seeds, rows))
    seeds_noise = draw.normal(0, seed_noise, (len(skill), seeds, 1)) if seed_noise else 0.0
    return easy + np.array(skill)[:, None, None] + noise + seeds_noise > 0


def test_mean_and_sd_over_seeds():
    assert mean_and_sd([0.8, 0.9, 1.0]) == pytest.approx((0.9, 0.1))
    assert mean_and_sd([0.5, 0.7]) == pytest.approx((0.6, math.sqrt(0.02)))
    mean, sd = mean_and_sd([0.5])
    assert mean == 0.5 and math.isnan(sd)


def test_holm_against_a_worked_example():
    """Four p, .01 x 4, .02 x 3, .03 x 2, .04 x 1; none below a smaller one's: .04, .06, .06, .06."""
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.0005, 0.9, 0.6]) == pytest.approx([0.0015, 1.0, 1.0])
    assert holm([0.3]) == [0.3] and holm([]) == []


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (0, 5), (3, 9), (7, 7), (12, 2)])
def test_mcnemar_against_the_binomial_by_hand(first, second):
    """Of n rows on which one run alone is right, k or fewer on the rarer side have the chance sum C(n, i) / 2^n."""
    one = np.array([True] * first + [False] * second + [True] * 4 + [False] * 3)
    other = np.array([False] * first + [True] * second + [True] * 4 + [False] * 3)
    count, few = first + second, min(first, second)
    tail = sum(math.comb(count, i) for i in range(few + 1)) / 2**count
    assert mcnemar_p(one, other) == pytest.approx(min(1.0, 2 * tail) if count else 1.0)
    assert mcnemar_p(one, other) == mcnemar_p(other, one)


def test_p_counts_the_smaller_tail_and_is_never_0():
    differences = np.array([0.1] * 97 + [0.0] + [-0.1])  # 2 of 99 are not above 0
    assert bootstrap_p(differences) == pytest.approx(2 * 3 / 100)
    assert bootstrap_p(np.full(99, 0.1)) == bootstrap_p(np.full(99, -0.1)) == pytest.approx(2 / 100)
    assert bootstrap_p(np.zeros(99)) == 1.0
    assert bootstrap_p(np.full(99, 1e-16)) == 1.0


def test_interval_cuts_equal_tails():
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))
    assert interval(np.arange(101.0), level=0.5) == pytest.approx((25, 75))


def test_a_run_alone_has_the_spread_of_a_binomial():
    """One method, one seed: the mean of N rows that are right or wrong, sd sqrt(a (1 - a) / N)."""
    correct = np.arange(200)[None, None] < 170
    resampled = resample_accuracy(correct)[:, 0]
    assert resampled.shape == (10_000,)
    assert resampled.mean() == pytest.approx(0.85, abs=0.001)
    assert resampled.std() == pytest.approx(math.sqrt(0.85 * 0.15 / 200), rel=0.03)


def test_seeds_alone_have_the_standard_error_of_their_mean():
    """Runs that differ on whole halves of rows that do not vary: the variance of the mean is s^2 / S, without bias."""
    correct = np.zeros((1, 4, 100_000), bool)
    for seed, right in enumerate((0.80, 0.84, 0.90, 0.94)):
        correct[0, seed, : int(right * 100_000)] = True
    _, sd = mean_and_sd([0.80, 0.84, 0.90, 0.94])
    assert resample_accuracy(correct).std() == pytest.approx(sd / math.sqrt(4), rel=0.03)


def test_rows_and_seeds_are_drawn_together_for_all_methods():
    """Two methods right on the same rows do not differ on any resample, however much each of them varies."""
    correct = runs([0.0], seed_noise=0.5)
    resampled = resample_accuracy(np.concatenate([correct, correct]))
    assert resampled[:, 0].std() > 0.01
    assert (resampled[:, 0] == resampled[:, 1]).all()


@pytest.mark.slow
def test_drawing_kinds_of_rows_is_drawing_rows():
    """The same distribution as drawing row numbers and computing the accuracy anew."""
    correct = runs([0.3, 0.0])
    draw, drawn = np.random.default_rng(0), []
    for _ in range(3_000):
        rows, seeds = draw.integers(400, size=400), draw.integers(correct.shape[1], size=correct.shape[1] - 1)
        drawn.append(correct[:, seeds][:, :, rows].mean((1, 2)))
    recomputed = np.array(drawn)
    for one in (resample_accuracy(correct), recomputed):
        assert one.mean(0) == pytest.approx(correct.mean((1, 2)), abs=0.002)
    fast, slow = (np.diff(one)[:, 0] for one in (resample_accuracy(correct), recomputed))
    assert stats.ks_2samp(fast, slow).pvalue > 0.001
    assert fast.std() == pytest.approx(slow.std(), rel=0.06)


def test_the_draws_are_the_same_every_time():
    correct = runs([0.2, 0.0])
    assert (resample_accuracy(correct, 50) == resample_accuracy(correct, 50)).all()
    assert (resample_accuracy(correct, 50) != resample_accuracy(correct, 50, seed=1)).any()
    assert resample_accuracy(correct, 1_234).shape == (1_234, 2)


def p_of(correct):
    """The test of the first method against the second."""
    resampled = resample_accuracy(correct, 1_000)
    return bootstrap_p(resampled[:, 0] - resampled[:, 1])


def test_a_strong_difference_has_a_small_p():
    assert p_of(runs([0.8, 0.0])) == pytest.approx(2 / 1001)


@pytest.mark.slow
@pytest.mark.parametrize("seed_noise", [0.0, 0.1])
def test_without_a_difference_p_is_small_as_rarely_as_it_says(seed_noise):
    """150 comparisons of equal methods: p below 0.05 in no more than chance allows, and spread over its range."""
    p = np.array([p_of(runs([0.0, 0.0], rows=200, seed=seed, seed_noise=seed_noise)) for seed in range(150)])
    assert np.sum(p < 0.05) <= stats.binom.ppf(0.999, 150, 0.05)
    assert np.mean(p < 0.5) == pytest.approx(0.5, abs=0.2) and p.max() > 0.9


@pytest.mark.slow
def test_mcnemar_alone_would_mistake_the_noise_of_seeds_for_a_difference():
    """Methods are equal, runs are not: tests of single runs reject more often than they say, the bootstrap does not."""
    drawn = [runs([0.0, 0.0], rows=800, seed=seed, seed_noise=0.1) for seed in range(80)]
    assert np.mean([mcnemar_p(correct[0, 0], correct[1, 0]) < 0.05 for correct in drawn]) > 0.25
    assert np.mean([p_of(correct) < 0.05 for correct in drawn]) < 0.15


@pytest.mark.parametrize("name", ["matthews", "pearson"])
def test_correlations_are_those_of_the_rows_that_were_drawn(name):
    """A perfect method, a noisy one, a constant one; one seed, so that nothing but rows is drawn."""
    draw = np.random.default_rng(1)
    gold = draw.integers(0, 2, 60) if name == "matthews" else draw.uniform(0, 5, 60)
    noisy = np.where(draw.random(60) < 0.8, gold, gold.max() - gold)
    guess = np.stack([gold, noisy, np.full(60, gold[0])])[:, None]
    resampled = resample_correlation(gold, guess, 40, seed=7)
    drawn = np.random.default_rng(7).multinomial(60, [1 / 60] * 60, size=40)
    want = [[metric(name)(np.repeat(gold, rows), np.repeat(run[0], rows)) for run in guess] for rows in drawn]
    np.testing.assert_allclose(resampled, want, atol=1e-9)
    assert bootstrap_p(resampled[:, 0] - resampled[:, 1]) == pytest.approx(2 / 41)
