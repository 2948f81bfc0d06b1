"""Tests of the shares of teacher layers in targets: numbers by hand."""

import random
from pathlib import Path

import pytest

from fine_tune.plot.shares import attention_weights, chain_shares, pair_shares, target_shares
from fine_tune.run.history import History

GATES = {2: 0.5, 3: 0.25, 4: 0.8}
CHAIN = {1: {1: 1}, 2: {1: 0.5, 2: 0.5}, 3: {1: 0.375, 2: 0.375, 3: 0.25}, 4: {1: 0.075, 2: 0.075, 3: 0.05, 4: 0.8}}
DOWN = {3: 0.5, 2: 0.25, 1: 0.8}
REVERSE = {4: {4: 1}, 3: {4: 0.5, 3: 0.5}, 2: {4: 0.375, 3: 0.375, 2: 0.25}, 1: {4: 0.075, 3: 0.075, 2: 0.05, 1: 0.8}}


def approx(shares):
    return {student: pytest.approx(row) for student, row in shares.items()}


def test_a_chain_of_three_gates_by_hand():
    assert chain_shares(GATES) == approx(CHAIN)


def test_a_reverse_chain_of_three_gates_by_hand():
    assert chain_shares(DOWN, reverse=True) == approx(REVERSE)


def test_a_pair_by_hand():
    assert pair_shares({1: 0.25, 4: 0.5}) == {1: {0: 0.75, 1: 0.25}, 4: {3: 0.5, 4: 0.5}}


@pytest.mark.parametrize("reverse", [False, True])
def test_shares_of_a_long_chain_are_those_of_folding_unit_vectors(reverse):
    draw = random.Random(0)
    openings = {layer: draw.random() for layer in (range(1, 12) if reverse else range(2, 13))}
    layers = list(range(12, 0, -1) if reverse else range(1, 13))
    aggregate = [float(other == layers[0]) for other in range(1, 13)]
    for layer in layers[1:]:
        g = openings[layer]
        aggregate = [g * (other == layer) + (1 - g) * value for other, value in enumerate(aggregate, start=1)]
        row = chain_shares(openings, reverse)[layer]
        assert [row.get(other, 0) for other in range(1, 13)] == pytest.approx(aggregate)


TARGETS = {
    "lad": (GATES, {"method": "lad", "layer_map": "2:1,4:2"}, {1: CHAIN[2], 2: CHAIN[4]}),
    "even map of an old run": (GATES, {"num_hidden_layers": 2}, {1: CHAIN[2], 2: CHAIN[4]}),
    "reverse": (DOWN, {"layer_map": "1:1,4:2", "reverse_gate": True}, {1: REVERSE[1], 2: REVERSE[4]}),
    "even map of an old reverse run": (
        {3: 0.5, 2: 0.25}, {"num_hidden_layers": 2, "reverse_gate": True}, {1: REVERSE[2], 2: REVERSE[4]},
    ),
    "lad_no": (
        {2: 0.25, 4: 0.5}, {"method": "lad_no", "layer_map": "2:1,4:2"}, {1: {1: 0.75, 2: 0.25}, 2: {3: 0.5, 4: 0.5}},
    ),
    "lad_no of every layer": (
        {1: 0.25, 2: 0.5}, {"method": "lad_no", "num_hidden_layers": 2}, {1: {0: 0.75, 1: 0.25}, 2: {1: 0.5, 2: 0.5}},
    ),
    "lad_no with gates that look like a chain": (
        {2: 0.5, 3: 0.25}, {"method": "lad_no", "layer_map": "2:1,3:2"}, {1: {1: 0.5, 2: 0.5}, 2: {2: 0.75, 3: 0.25}},
    ),
    "gates with gaps and no method": (
        {2: 0.25, 4: 0.5}, {"num_hidden_layers": 2}, {1: {1: 0.75, 2: 0.25}, 2: {3: 0.5, 4: 0.5}},
    ),
    "partial_lad": (
        {2: 0.5, 3: 0.25}, {"method": "partial_lad", "layer_map": "2:1,3:2,5:3,6:4"},
        {1: CHAIN[2], 2: CHAIN[3], 3: {5: 1}, 4: {6: 1}},
    ),
    "lad_user_defined": (
        GATES, {"method": "lad_user_defined", "layer_map": "4:1,1:2,3:4"}, {1: CHAIN[4], 2: CHAIN[1], 4: CHAIN[3]},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("openings", "config", "expected"), TARGETS.values(), ids=TARGETS)
def test_targets_by_hand(openings, config, expected):
    log = {f"gate_{layer}": {10: 0.9, 20: g} for layer, g in openings.items()}
    step, shares = target_shares(History(Path("run"), log | {"loss": {30: 1.0}}, config))
    assert step == 20
    assert shares == approx(expected)
    assert all(sum(row.values()) == pytest.approx(1) for row in shares.values())


def test_attention_is_that_of_the_last_entry_without_the_layers_out_of_reach():
    last = {"attn_1_1": 1.0, "attn_1_2": 0.0, "attn_2_1": 0.25, "attn_2_2": 0.75}
    run = History(Path("run"), {name: {10: 0.5, 20: weight} for name, weight in last.items()})
    assert attention_weights(run) == (20, {1: {1: 1.0}, 2: {1: 0.25, 2: 0.75}})


def test_a_run_without_gates_or_attention_has_no_shares():
    run = History(Path("run"), {"loss": {1: 0.5}}, {"method": "kd", "layer_map": "2:1"})
    assert target_shares(run)[1] == attention_weights(run)[1] == {}
