"""Tests of lazy word embeddings: rows updated only when they are read end where a dense AdamW puts them.

The truth is torch's AdamW in float64 that updates every row in every step. In both limits of eps the lazy float32 rows
are no farther from it than torch's own float32 AdamW is; between the limits they are at most a few times as far at a
usual learning rate, and within a fiftieth of the distance moved at a huge one.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fine_tune.flags.shared import OptimConfig
from fine_tune.model.checkpoint import save_checkpoint
from fine_tune.run import optim, session
from fine_tune.run.lazy_adamw import LazyRows
from fine_tune.run.optim import Part, Updater, linear_schedule

ROWS, WIDTH, UPDATES, WARM_UP = 400, 8, 400, 40
UNREAD = 20
"""Rows at the end that no batch reads."""


def start() -> Tensor:
    """Embeddings of a usual size."""
    return 0.05 * torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(3))


def batches() -> list[Tensor]:
    """Distinct rows of every update: Zipf-distributed, so that some are read always and others once."""
    draw = np.random.default_rng(0)
    share = 1 / np.arange(1, ROWS - UNREAD + 1) ** 1.1
    return [
        torch.from_numpy(np.unique(draw.choice(len(share), 30, p=share / share.sum()))).long() for _ in range(UPDATES)
    ]


def gradients(scale: float) -> list[Tensor]:
    """A gradient for the rows of every update."""
    draw = torch.Generator().manual_seed(1)
    return [scale * torch.randn(len(rows), WIDTH, generator=draw) for rows in batches()]


def dense(config: OptimConfig, scale: float, dtype: torch.dtype) -> Tensor:
    """Weights after all updates by torch's AdamW: in float32 the fused one that a run without lazy rows uses."""
    weight = nn.Parameter(start().to(dtype))
    settings = {"lr": config.lr, "betas": (config.beta1, config.beta2), "eps": config.eps}
    adamw = torch.optim.AdamW([weight], **settings, weight_decay=config.weight_decay, fused=dtype == torch.float32)
    schedule = torch.optim.lr_scheduler.LambdaLR(adamw, lambda step: linear_schedule(step, UPDATES, WARM_UP))
    for rows, gradient in zip(batches(), gradients(scale), strict=True):
        weight.grad = torch.zeros_like(weight)
        weight.grad[rows] = gradient.to(dtype)
        adamw.step()
        schedule.step()
    return weight.detach()


class Holder(nn.Module):
    """A module with an embedding, as a model has one."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding.from_pretrained(start(), freeze=False)


def lazy(config: OptimConfig, scale: float, every: int | None = None) -> tuple[Holder, LazyRows]:
    """Module and moments after all updates; `every` so many updates all rows are read without a gradient."""
    model = Holder()
    rows_of = LazyRows(model.words, config, UPDATES)
    for step, (rows, gradient) in enumerate(zip(batches(), gradients(scale), strict=True)):
        (model.words(rows) * gradient).sum().backward()
        rows_of.gradient()
        rows_of.step(config.lr * linear_schedule(step, UPDATES, WARM_UP))
        if every and step % every == 0:
            with torch.no_grad():
                model.words(torch.arange(ROWS))
    return model, rows_of


def caught_up(config: OptimConfig, scale: float) -> Tensor:
    """Weights after all updates, with those of all rows made."""
    model, rows_of = lazy(config, scale)
    rows_of.catch_up()
    return model.words.weight.detach()


def distances(config: OptimConfig, scale: float) -> tuple[float, float, float]:
    """Largest distances from the truth, of lazy and of dense float32 rows, and the mean distance from the start."""
    truth = dense(config, scale, torch.float64)
    got = caught_up(config, scale)
    plain = dense(config, scale, torch.float32)
    ours, theirs = (float((weight - truth).abs().max()) for weight in (got, plain))
    return ours, theirs, float((truth - start()).abs().mean())


@pytest.mark.slow
# sqrt(v) far above eps = 1e-8; between, where one number per update stands for the sum; about; and far below.
@pytest.mark.parametrize(("scale", "factor"), [(1e-2, 1.0), (1e-7, 3.0), (1e-9, 1.0), (1e-11, 1.0)])
def test_lazy_rows_are_as_close_to_the_truth_as_dense_ones(scale, factor):
    ours, theirs, moved = distances(OptimConfig(lr=1e-4), scale)
    assert 0 < ours <= factor * theirs < 0.5 * moved


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-5, 1e-7, 1e-8])
@pytest.mark.parametrize("decay", [0.01, 1.0])
def test_between_the_limits_of_eps_the_gap_is_a_fiftieth_of_the_way_even_at_a_huge_rate(scale, decay):
    ours, _, moved = distances(OptimConfig(lr=1e-2, weight_decay=decay), scale)
    assert ours <= 0.02 * moved


@pytest.mark.slow
@pytest.mark.parametrize(("beta1", "beta2"), [(0.0, 0.999), (0.5, 0.75), (0.9, 0.95), (0.99, 0.999)])
def test_other_decays_of_the_moments_are_followed_as_well(beta1, beta2):
    ours, theirs, _ = distances(OptimConfig(lr=1e-4, beta1=beta1, beta2=beta2), 1e-2)
    assert ours <= 2 * theirs


@pytest.mark.slow
def test_rows_never_read_only_decay():
    config = OptimConfig(lr=1e-2, weight_decay=0.5)
    rates = [config.lr * linear_schedule(step, UPDATES, WARM_UP) for step in range(UPDATES)]
    share = np.prod([1 - rate * config.weight_decay for rate in rates])
    assert share < 0.5
    model, rows = lazy(config, 1e-2)
    rows.catch_up()
    torch.testing.assert_close(model.words.weight[-UNREAD:], start()[-UNREAD:] * share)
    assert not rows.exp_avg[-UNREAD:].any() and not rows.exp_avg_sq[-UNREAD:].any()
    assert torch.equal(caught_up(OptimConfig(lr=1e-2, weight_decay=0.0), 1e-2)[-UNREAD:], start()[-UNREAD:])


@pytest.mark.slow
def test_reading_the_state_changes_no_weight_and_catching_up_brings_all_rows_up_to_date():
    model, rows = lazy(OptimConfig(lr=1e-2), 1e-2)
    waiting = rows.reached < UPDATES
    before = model.words.weight.detach().clone()
    assert waiting.sum() > ROWS / 2
    assert torch.equal(model.state_dict()["words.weight"], before) and torch.equal(model.words.weight, before)
    assert torch.equal(rows.reached < UPDATES, waiting)
    rows.catch_up()
    saved = model.state_dict()["words.weight"].clone()
    assert (rows.reached == UPDATES).all()
    assert torch.equal(saved, model.words.weight)
    assert torch.equal(saved[~waiting], before[~waiting])
    assert (saved[waiting] != before[waiting]).any(1).all()
    rows.catch_up()
    assert torch.equal(saved, model.words.weight)


@pytest.mark.slow
@pytest.mark.parametrize("every", [7, *(pytest.param(every, marks=pytest.mark.slow) for every in (1, 150))])
def test_reading_rows_between_updates_changes_rounding_only(every):
    config = OptimConfig(lr=1e-4)
    (one, a), (other, b) = lazy(config, 1e-2), lazy(config, 1e-2, every)
    a.catch_up(), b.catch_up()
    torch.testing.assert_close(one.words.weight, other.words.weight, rtol=0, atol=2e-6)
    torch.testing.assert_close(a.exp_avg, b.exp_avg, rtol=1e-4, atol=1e-10)
    torch.testing.assert_close(a.exp_avg_sq, b.exp_avg_sq, rtol=1e-4, atol=1e-12)


def test_a_learning_rate_of_zero_moves_nothing_and_gives_no_nan():
    """The first update of a warm-up: rows read in it, and rows that catch up over it, stay where they are."""
    model = Holder()
    rows = LazyRows(model.words, OptimConfig(), 10)
    for _ in range(3):
        model.words(torch.arange(5)).sum().backward()
        rows.gradient()
        rows.step(0.0)
    model.words(torch.arange(ROWS))
    assert torch.equal(model.words.weight, start())
    model.words(torch.arange(5, 9)).sum().backward()
    rows.gradient()
    rows.step(1e-3)
    rows.catch_up()
    saved = model.words.weight
    assert saved.isfinite().all() and (saved[:9] != start()[:9]).all()


class Model(nn.Module):
    """Words, summed up, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding.from_pretrained(start(), freeze=False)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.linear(self.words(tokens).sum(1)).square().mean()


def trained(config: OptimConfig, is_lazy: bool, updates: int) -> dict[str, Tensor]:
    """Weights after some updates of two micro-batches each, in which tokens stand several times."""
    torch.manual_seed(0)
    model = Model()
    updater = Updater({"": Part([model], config, 20, 0, lazy=model.words if is_lazy else None)})
    for _ in range(updates):
        for _ in range(2):
            updater.backward(model(torch.randint(50, (4, 9))))
        updater.step()
        assert model.words.weight.grad is None
    updater.catch_up()
    assert not is_lazy or (updater.parts[""].lazy.reached == updates).all()
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("updates", [1, 15])
def test_the_gradient_is_clipped_by_the_norm_of_rows_and_other_weights_together(updates):
    """With a large eps an update is in proportion to the clipped gradient."""
    config = OptimConfig(lr=1.0, eps=1.0, max_norm=0.01, weight_decay=0.0)
    one, other = trained(config, True, updates), trained(config, False, updates)
    free = trained(OptimConfig(lr=1.0, eps=1.0, max_norm=1e6, weight_decay=0.0), True, updates)
    torch.manual_seed(0)
    before = Model().state_dict()
    for name in one:
        moves = [weights[name] - before[name] for weights in (one, other, free)]
        torch.testing.assert_close(moves[0], moves[1], rtol=1e-4, atol=1e-7)
        assert moves[0].abs().max() > 1e-5 and moves[2].norm() > 1.5 * moves[0].norm()


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.9), (0.9, 0.81), (0.9, 0.5), (0.0, 0.0)])
def test_momentum_that_would_grow_is_refused(beta1, beta2):
    with pytest.raises(ValueError, match=rf"--beta1 {beta1} .*--beta2 {beta2}.*--no_lazy_embedding"):
        LazyRows(Holder().words, OptimConfig(beta1=beta1, beta2=beta2), 10)


QUICK = ("--task", "sst2", "--device_id", -1, "--batch_size", 8, "--dropout", 0, "--warmup_step", 2)
SCRIPTS = ("run_fine_tune", "run_lad_distil", "run_student_fine_tune")


def flags(script: str, encoder: str) -> tuple[object, ...]:
    """What a script needs."""
    source = (
        ("--ptrain_ver", encoder, "--max_seq_len", 24) if script == "run_fine_tune" else ("--teacher_exp", "teacher")
    )
    return (*QUICK, *source)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_run_ends_where_the_run_without_lazy_rows_ends(script, data, run, teacher, encoder, monkeypatch):
    made: list[nn.Embedding] = []

    class Counted(LazyRows):
        def __init__(self, embedding: nn.Embedding, *rest: object) -> None:
            made.append(embedding)
            super().__init__(embedding, *rest)

    monkeypatch.setattr(optim, "LazyRows", Counted)
    base = (*flags(script, encoder), "--total_step", 20, "--lr", 1e-3)
    run(script, "--experiment", "lazy", *base)
    assert len(made) == 1
    run(script, "--experiment", "dense", *base, "--no_lazy_embedding")
    assert len(made) == 1
    one, other = data.state("lazy", 20), data.state("dense", 20)
    assert max(float((value - other[name]).abs().max()) for name, value in one.items()) <= 1e-5


@pytest.mark.slow
def test_every_checkpoint_is_saved_with_all_rows_up_to_date(data, run, teacher, monkeypatch):
    """Though a state between two checkpoints is not."""
    made, seen = [], []

    class Seen(LazyRows):
        def __init__(self, *given: object) -> None:
            made.append(self)
            super().__init__(*given)

    def save(run_dir: Path, step: int, modules: dict[str, nn.Module]) -> None:
        (rows,) = made
        assert rows.now == step and (rows.reached == step).all()
        save_checkpoint(run_dir, step, modules)
        seen.append(step)
        weights = torch.load(run_dir / f"model-{step}.pt", weights_only=True)
        assert torch.equal(weights["encoder.embeddings.word_embeddings.weight"], rows.weight)

    monkeypatch.setattr(optim, "LazyRows", Seen)
    monkeypatch.setattr(session, "save_checkpoint", save)
    base = (*flags("run_lad_distil", ""), "--experiment", "x", "--total_step", 5, "--ckpt_step", 2, "--lr", 1e-3)
    run("run_lad_distil", *base, "--state_step", 1)
    assert seen == [2, 4, 5]
    words = [data.state("x", step)["encoder.embeddings.word_embeddings.weight"] for step in seen]
    moved = (words[0] != words[1]).any(1)
    assert moved[1:].all() and not words[0][0].any()  # rows that no batch reads decay, but for padding's zeros


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_refuses_such_momentum_before_it_leaves_anything(script, data, run, refused, teacher, encoder):
    base = (*flags(script, encoder), "--total_step", 3, "--beta2", 0.5)
    assert "--no_lazy_embedding" in refused(script, "--experiment", "x", *base)
    assert not data.run("x").exists()
    run(script, "--experiment", "x", *base, "--no_lazy_embedding")
