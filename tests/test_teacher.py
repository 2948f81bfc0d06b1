"""Tests of the live teacher: on a CPU a sentence's outputs are the same, to the last bit, in whatever batch it comes.

That is what lets a cache take the model's place exactly. It holds for batches of at least 16 tokens: a smaller product
may be summed in another order.
"""

import itertools

import numpy as np
import pytest
import torch

from fine_tune.data.batches import updates
from fine_tune.data.tokens import load_split, load_tokenizer
from fine_tune.hardware.cpu.attention import by_length
from fine_tune.model.classifier import Classifier
from fine_tune.model.encoder import pretrained_encoder
from fine_tune.tasks.table import TASKS
from fine_tune.teacher.live import HEAD_ROWS, LiveTeacher

CPU = torch.device("cpu")
LENGTHS = [3, 3, 7, 7, 7, 1, 3, 9]


@pytest.fixture
def rows(data, encoder):
    """24 tokenised rows of many lengths."""
    return load_split(TASKS["sst2"], "train", load_tokenizer(encoder), 24)


@pytest.fixture(params=["bert", "albert"])
def model(request, encoder, albert):
    """A classifier of each architecture."""
    return Classifier(pretrained_encoder({"bert": encoder, "albert": albert}[request.param], 0.1), 2, 0.1)


def heads() -> tuple[torch.Tensor, ...]:
    """Random query, key and value (B, H, S, D / H)."""
    return tuple(torch.randn(len(LENGTHS), 2, max(LENGTHS), 8) for _ in range(3))


def test_attention_by_length_is_attention_under_a_mask():
    query, key, value = heads()
    mask = torch.arange(max(LENGTHS))[None, :] < torch.tensor(LENGTHS)[:, None]
    got, none = by_length(torch.nn.Module(), query, key, value, None, LENGTHS, scaling=0.3)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    want = sdpa(query, key, value, attn_mask=mask[:, None, None, :], scale=0.3).transpose(1, 2)
    assert none is None and got.shape == want.shape
    torch.testing.assert_close(got[mask], want[mask], rtol=1e-5, atol=1e-5)
    assert not got[~mask].any()


def test_attention_by_length_is_that_of_the_rows_of_each_length_alone_to_the_last_bit():
    query, key, value = heads()
    got, _ = by_length(torch.nn.Module(), query, key, value, None, LENGTHS)
    for length in set(LENGTHS):
        alike = [row for row, other in enumerate(LENGTHS) if other == length]
        alone, _ = by_length(torch.nn.Module(), *(tensor[alike, :, :length] for tensor in (query, key, value)), None)
        assert torch.equal(got[alike, :length], alone)


@pytest.mark.slow
def test_a_model_that_attends_by_length_agrees_with_one_under_a_mask(model, rows):
    inputs = rows.inputs(np.arange(24))
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        want = model.eval()(**inputs)
    got = LiveTeacher(model, CPU, range(4), by_length=True).run(inputs)
    assert model.encoder.config._attn_implementation == "by_length"
    torch.testing.assert_close(got.logits, want.logits, rtol=1e-5, atol=1e-5)
    for layer, states in enumerate(want.hidden_states):
        torch.testing.assert_close(got.states[layer][real], states[real], rtol=1e-5, atol=1e-5)


def compositions(lengths: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Batches of 24 rows, each of at least 16 tokens."""
    draw = np.random.default_rng(1)
    order, mixed = np.argsort(lengths, kind="stable"), draw.permutation(24)
    found = {
        "all": [np.arange(24)], "reversed": [np.arange(24)[::-1]], "by length": np.split(order, 4),
        "mixed": np.split(mixed, 6), "uneven": np.split(mixed, [15, 20]), "twice": [np.tile(order, 2)],
        "of one length": [np.resize(order[lengths[order] == length], 16) for length in set(lengths)],
        "with the longest": [np.array([row, order[-1], order[-2]]) for row in range(24)],
    }  # fmt: skip
    assert all(lengths[batch].sum() >= 16 for batches in found.values() for batch in batches)
    return found


def test_a_sentences_outputs_do_not_depend_on_its_batch_to_the_last_bit(model, rows):
    teacher, lengths = LiveTeacher(model, CPU, (0, 2, 3), by_length=True), rows.lengths
    seen: dict[int, list[torch.Tensor]] = {}
    for name, batches in compositions(lengths).items():
        for batch in batches:
            out = teacher.run(rows.inputs(batch))
            for at, row in enumerate(batch.tolist()):
                got = [out.logits[at], *(states[at, : lengths[row]] for states in out.states.values())]
                want = seen.setdefault(row, got)
                assert all(torch.equal(one, other) for one, other in zip(got, want, strict=True)), (name, row)
    assert len(seen) == 24


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, HEAD_ROWS - 1, HEAD_ROWS, HEAD_ROWS + 1, 3 * HEAD_ROWS + 5])
def test_the_head_reads_any_number_of_rows_in_blocks_of_one_size(model, rows, count):
    teacher = LiveTeacher(model, CPU, (), by_length=True)
    want = teacher.run(rows.inputs(np.arange(24))).logits
    row = int(np.argmax(rows.lengths))
    batch = np.resize(np.r_[row, np.arange(24)], count)
    logits = teacher.run(rows.inputs(batch)).logits
    assert logits.shape == (count, 2)
    torch.testing.assert_close(logits, want[torch.from_numpy(batch)], rtol=1e-6, atol=1e-7)
    assert count == 1 or torch.equal(logits, want[torch.from_numpy(batch)])


@pytest.mark.parametrize("layers", [(), (2,), (0, 1, 3)])
def test_only_the_layers_asked_for_are_given(model, rows, layers):
    (batch,) = next(updates(rows, batch_size=8, seed=1))
    with torch.no_grad():
        want = model.eval()(**batch.teacher)
    out = LiveTeacher(model, CPU, layers, by_length=False)(batch)
    assert tuple(out.states) == layers
    assert all(torch.equal(out.states[layer], want.hidden_states[layer]) for layer in layers)
    torch.testing.assert_close(out.logits, want.logits, rtol=1e-5, atol=1e-6)


def test_the_teacher_is_frozen_and_its_outputs_have_no_gradient(model, rows):
    model.train().requires_grad_(True)
    teacher = LiveTeacher(model, CPU, (3,), by_length=True)
    one, other = (teacher(batch) for (batch,) in [next(updates(rows, batch_size=8, seed=1)) for _ in range(2)])
    assert torch.equal(one.logits, other.logits)  # no dropout
    assert not model.training and not any(weight.requires_grad for weight in model.parameters())
    assert not one.logits.requires_grad and not one.states[3].requires_grad


def test_a_batch_without_padding_is_read_as_it_is(model, rows):
    """No mask and no lengths: the library's own attention, to the last bit, and it is never asked for a mask."""
    alike = next(batch for (batch,) in itertools.islice(updates(rows, batch_size=2, seed=3), 24) if batch.mask is None)
    with torch.no_grad():
        want = model.eval()(**alike.teacher).hidden_states
    got = LiveTeacher(model, CPU, range(4), by_length=True)(alike).states
    assert all(torch.equal(got[layer], want[layer]) for layer in range(4))
