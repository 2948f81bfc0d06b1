"""Tests of precision and of what saves memory: which format is chosen, what stays float32, what changes nothing.

bfloat16 is emulated here where the processor has none: the arithmetic is the same.
"""

import shutil

import pytest
import torch
from torch import nn
from transformers.models.bert.modeling_bert import BertIntermediate

from fine_tune.hardware import precision as module
from fine_tune.hardware.precision import resolve_precision, set_precision
from fine_tune.model import placement
from fine_tune.model.classifier import Classifier
from fine_tune.model.encoder import pretrained_encoder
from fine_tune.model.gate import GateChain, GateShape
from fine_tune.model.placement import compile_seconds
from fine_tune.run.meter import Meter
from fine_tune.teacher.live import LiveTeacher

CPU = ("--device_id", -1)
QUICK = (*CPU, "--task", "sst2", "--batch_size", 8, "--log_step", 1, "--total_step", 4, "--warmup_step", 1)
EXACT = (*QUICK, "--dropout", 0, "--lr", 1e-3)
SOURCE = {
    "run_fine_tune": ("--max_seq_len", 24),
    "run_student_fine_tune": ("--teacher_exp", "teacher"),
    "run_lad_distil": ("--teacher_exp", "teacher", "--gate_lr", 1e-3),
}
BY_SCRIPT = [pytest.param(script, marks=[] if script == "run_lad_distil" else pytest.mark.slow) for script in SOURCE]
"""All of them; LAD stands for the others in the fast set."""


def flags(script: str, encoder: str) -> tuple[object, ...]:
    """What a script needs."""
    return (*SOURCE[script], *(("--ptrain_ver", encoder) if script == "run_fine_tune" else ()), *EXACT)


# Devices `new` have bfloat16, devices `old` do not.
RESOLVED = [
    (None, False, "new cpu", "fp32"), (None, False, "old cpu", "fp32"), (None, False, "new cuda", "fp32"),
    ("fp32", False, "new cpu", "fp32"), ("bf16", False, "new cpu", "bf16"), ("bf16", False, "new cuda", "bf16"),
    ("fp16", False, "old cuda", "fp16"), ("fp16", False, "new cuda", "fp16"), (None, True, "new cpu", "bf16"),
    (None, True, "new cuda", "bf16"), (None, True, "old cuda", "fp16"), (None, True, "new cpu, new cuda", "bf16"),
    ("bf16", True, "new cpu", "bf16"), ("fp16", True, "new cuda", "fp16"), ("fp32", False, "old cpu, old cuda", "fp32"),
]  # fmt: skip
REFUSED = [
    (None, True, "old cpu", "--amp.* cpu only emulates it"), ("bf16", False, "old cpu", "--precision bf16.* cpu only"),
    ("bf16", False, "old cuda", "--precision bf16.* cuda"), ("fp16", False, "new cpu", "--precision fp16 is for GPUs"),
    ("fp16", False, "new cpu, new cuda", "--precision fp16 is for GPUs; on .*cpu"),
    (None, True, "new cpu, old cuda", "--amp.* cuda"), (None, True, "old cpu, new cuda", "--amp.* cpu"),
    ("fp32", True, "new cpu", "--amp and --precision fp32 contradict"),
]  # fmt: skip


@pytest.fixture
def devices(monkeypatch):
    """Devices by words such as `new cpu, old cuda`."""

    def find(words: str) -> list[torch.device]:
        pairs = [word.split() for word in words.split(", ")]
        new = {torch.device(kind, 0 if kind == "cuda" else None): age == "new" for age, kind in pairs}
        monkeypatch.setattr(module, "has_bfloat16", new.__getitem__)
        return list(new)

    return find


@pytest.mark.parametrize(("precision", "amp", "places", "want"), RESOLVED)
def test_the_precision_follows_from_flags_and_devices(precision, amp, places, want, devices):
    assert resolve_precision(precision, amp, *devices(places)) == want


@pytest.mark.parametrize(("precision", "amp", "places", "reason"), REFUSED)
def test_what_a_device_lacks_is_refused_by_name(precision, amp, places, reason, devices):
    with pytest.raises(ValueError, match=reason):
        resolve_precision(precision, amp, *devices(places))


@pytest.mark.parametrize("script", SOURCE)
def test_float16_on_a_cpu_is_refused_in_one_line(script, data, refused, teacher, encoder):
    message = refused(script, "--experiment", "x", *flags(script, encoder), "--precision", "fp16")
    assert message.startswith("--precision fp16 is for GPUs; on cpu") and not data.run("x").exists()


@pytest.mark.parametrize("script", ["run_fine_tune_eval", "generate_test_prediction"])
def test_float16_on_a_cpu_is_refused_by_the_reading_scripts(script, refused, teacher):
    message = refused(script, "--experiment", "teacher", "--task", "sst2", *CPU, "--precision", "fp16")
    assert message.startswith("--precision fp16 is for GPUs; on cpu")
    assert not list(teacher.glob("*.tsv"))


@pytest.mark.parametrize("name", ["fp32", "bf16"])
@pytest.mark.parametrize("learns", [False, True])
def test_a_frozen_model_has_its_matrices_in_the_low_precision_and_a_learning_one_has_not(name, learns, encoder):
    model = Classifier(pretrained_encoder(encoder), 2, 0.0).eval().requires_grad_(learns)
    want = model.state_dict()
    set_precision(model, name)
    low = torch.bfloat16 if name == "bf16" and not learns else torch.float32
    linear = {module for module in model.modules() if isinstance(module, nn.Linear)}
    assert len(linear) == 4 * 6 + 2
    for part in model.modules():
        kind = low if part in linear else torch.float32
        assert {weight.dtype for weight in part.parameters(recurse=False)} <= {kind}, part
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value.float(), want[key].float(), rtol=2**-8, atol=0)


def test_logits_are_float32_and_the_states_between_layers_are_not(encoder):
    inputs = {"input_ids": torch.randint(5, 60, (4, 9)), "attention_mask": None}
    inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    full = Classifier(pretrained_encoder(encoder), 2, 0.0).eval()
    want = full(**inputs)
    for learns in (False, True):
        model = Classifier(pretrained_encoder(encoder), 2, 0.0).eval().requires_grad_(learns)
        model.load_state_dict(full.state_dict())
        set_precision(model, "bf16")
        got = model(**inputs)
        assert got.logits.dtype == torch.float32
        assert {states.dtype for states in got.hidden_states} == {torch.bfloat16}
        torch.testing.assert_close(got.logits, want.logits, rtol=0.05, atol=0.01)
        for one, other in zip(got.hidden_states, want.hidden_states, strict=True):
            torch.testing.assert_close(one.float(), other, rtol=0.05, atol=0.05)


def test_gates_fold_low_precision_layers_in_float32():
    states = [torch.randn(3, 5, 16, dtype=torch.bfloat16) for _ in range(4)]
    full, low = (GateChain(GateShape(16, 5), 4, {0: 1, 1: 3}) for _ in range(2))
    low.load_state_dict(full.state_dict())
    set_precision(low, "bf16")
    (targets, seen), (want, _) = low(states), full(states)
    assert {value.dtype for value in (*targets.values(), *seen.values())} == {torch.float32}
    assert {weight.dtype for weight in low.parameters()} == {torch.float32}
    assert list(targets) == list(want)
    for layer, target in targets.items():
        assert not torch.equal(target, want[layer])
        torch.testing.assert_close(target, want[layer], rtol=0.05, atol=0.05)


@pytest.fixture
def emulated(monkeypatch):
    """bfloat16 is taken for available."""
    monkeypatch.setattr(module, "has_bfloat16", lambda device: True)


@pytest.mark.slow
@pytest.mark.parametrize("script", SOURCE)
def test_what_a_run_in_bfloat16_measures_is_float32(script, run, data, teacher, encoder, emulated, monkeypatch):
    seen: dict[str, set[torch.dtype]] = {"teacher": set(), "teacher states": set()}
    add, ask = Meter.add, LiveTeacher.run

    def watch(self, weight, **values):
        for name, value in values.items():
            seen.setdefault(name, set()).add(value.dtype)
        add(self, weight, **values)

    def listen(self, inputs):
        out = ask(self, inputs)
        seen["teacher"].add(out.logits.dtype)
        seen["teacher states"] |= {states.dtype for states in out.states.values()}
        return out

    monkeypatch.setattr(Meter, "add", watch)
    monkeypatch.setattr(LiveTeacher, "run", listen)
    run(script, "--experiment", "s", *flags(script, encoder), "--precision", "bf16")
    if script == "run_lad_distil":
        assert seen.pop("teacher") == {torch.float32} and seen.pop("teacher states") == {torch.bfloat16}
        gates = {"gate_2", "gate_3", "gate_4", "target_spread", "grad_norm", "gate_grad_norm"}
        assert set(seen) == {"loss", "soft_loss", "hard_loss", "hidden_loss"} | gates
    assert all(kinds <= {torch.float32} for kinds in seen.values()) and seen["loss"]


def losses(data, experiment: str, name: str = "loss") -> list[float]:
    """A loss of every logged step."""
    return [line[name] for line in data.metrics(experiment)]


@pytest.mark.slow
@pytest.mark.parametrize("script", BY_SCRIPT)
def test_bfloat16_stays_close_to_float32(script, data, run, teacher, encoder, emulated):
    base = flags(script, encoder)
    run(script, "--experiment", "full", *base)
    for name, given in {"mixed": ("--amp",), "asked": ("--precision", "bf16")}.items():
        run(script, "--experiment", name, *base, *given)
        assert data.config(name)["precision"] == "bf16"
    assert data.config("full")["precision"] == "fp32"
    assert losses(data, "mixed") == losses(data, "asked") != losses(data, "full")
    assert losses(data, "mixed") == pytest.approx(losses(data, "full"), rel=0.05)
    full, mixed = data.state("full", 4), data.state("mixed", 4)
    assert all(value.dtype == torch.float32 for value in mixed.values())
    for key, value in mixed.items():  # 4 updates, the first at a rate of 0, move a weight by 2e-3 at most
        torch.testing.assert_close(value, full[key], rtol=0, atol=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("given", [("--precision", "bf16"), ("--amp",)], ids=str)
def test_evaluation_and_prediction_in_bfloat16(given, data, run, teacher, emulated):
    ask = ("--experiment", "teacher", "--task", "sst2", *CPU, "--do_predict")

    def tables() -> dict[str, list[list[float]]]:
        found = {}
        for file in sorted(teacher.glob("prediction_*.tsv")):
            lines = file.read_text(encoding="utf-8").splitlines()[1:]
            found[file.name] = [[float(cell) for cell in line.split("\t")[-2:]] for line in lines]
        return found

    run("run_fine_tune_eval", *ask)
    full, loss = tables(), data.config("teacher", name="eval_dev.json")["checkpoints"]["4"]["loss"]
    run("run_fine_tune_eval", *ask, *given)
    low, lower = tables(), data.config("teacher", name="eval_dev.json")["checkpoints"]["4"]["loss"]
    assert set(full) == set(low) and len(full) == 3 and full != low
    for name, rows in low.items():
        torch.testing.assert_close(torch.tensor(rows), torch.tensor(full[name]), rtol=0.05, atol=0.02)
    assert lower == pytest.approx(loss, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("script", BY_SCRIPT)
def test_layers_computed_again_give_the_same_losses(script, data, run, teacher, encoder, monkeypatch):
    calls, forward = [], BertIntermediate.forward  # a part of every layer
    monkeypatch.setattr(BertIntermediate, "forward", lambda self, x: calls.append(self.training) or forward(self, x))
    base = (*flags(script, encoder), "--accum_step", 2)
    run(script, "--experiment", "kept", *base)
    kept = calls.count(True)
    calls.clear()
    run(script, "--experiment", "again", *base, "--gradient_checkpointing")
    assert calls.count(True) == 2 * kept > 0  # every layer that learns ran twice
    assert data.metrics("again") == data.metrics("kept")
    one, other = data.state("kept", 4), data.state("again", 4)
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_long_batches_alone_have_layers_computed_again_with_the_same_results(encoder, monkeypatch):
    """The first layers, more of them the longer, dropout's masks included; evaluation in between does not count."""
    calls, forward = [], BertIntermediate.forward
    monkeypatch.setattr(BertIntermediate, "forward", lambda self, x: calls.append(self) or forward(self, x))
    inputs = [torch.randint(5, 30, (4, length)) for length in (4, 4, 4, 4, 4, 11, 28, 5, 20)]
    gave_back: list[int] = []
    monkeypatch.setattr(placement, "give_back_gaps", lambda: gave_back.append(len(counts)))
    counts: list[list[int]] = []

    def trained(prepare):
        torch.manual_seed(3)
        model = Classifier(pretrained_encoder(str(encoder), 0.1), 2, 0.1)
        prepare(model)
        counts.clear()
        for ids in inputs:
            model.eval()(ids.repeat(9, 1), None, torch.zeros_like(ids).repeat(9, 1))
            calls.clear()
            out = model.train()(ids, None, torch.zeros_like(ids))
            (out.logits.sum() + sum((states**2).sum() for states in out.hidden_states)).backward()
            counts.append([calls.count(layer.intermediate) for layer in model.encoder.encoder.layer])
        return counts.copy(), {name: weights.grad for name, weights in model.named_parameters()}

    (forwards, mine), (_, plain) = trained(placement.checkpoint_long_batches), trained(lambda model: None)
    once = [1, 1, 1, 1]
    assert forwards == [once] * 5 + [[2, 1, 1, 1], [2, 2, 1, 1], once, [2, 1, 1, 1]]
    assert gave_back == [5, 6, 7]  # before and after the longest so far; the last one is long, but well below it
    for name, grad in plain.items():
        assert torch.equal(mine[name], grad), name


def test_an_architecture_whose_layers_cannot_be_computed_again_is_refused_by_flag(data, refused, albert):
    base = ("--experiment", "x", "--model", "albert", "--ptrain_ver", albert, "--max_seq_len", 24, *EXACT)
    assert "--gradient_checkpointing" in refused("run_fine_tune", *base, "--gradient_checkpointing")
    assert not data.run("x").exists()


@pytest.mark.slow
def test_a_teacher_of_that_architecture_is_no_obstacle_for_it_learns_nothing(data, run, albert):
    base = ("--task", "sst2", *CPU, "--total_step", 1, "--batch_size", 4)
    run("run_fine_tune", "--experiment", "t", "--model", "albert", "--ptrain_ver", albert, "--max_seq_len", 24, *base)
    about = ("--teacher_exp", "t", "--tmodel", "albert", "--student_init", "random", "--no_preflight")
    run("run_lad_distil", "--experiment", "s", *about, *base, "--gradient_checkpointing")


@pytest.mark.slow
def test_the_time_of_compilation_is_known():
    before = compile_seconds()
    torch.compile(lambda x: x.sin() + 1, backend="eager")(torch.ones(2))
    assert compile_seconds() > before


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_a_compiled_run_has_the_same_losses_and_tells_its_warm_up(data, run, teacher, encoder, monkeypatch):
    """With the same values dropped, also where layers are computed again; nothing compiled by an older run is used."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(data.root / "compiled"))
    lad = (*flags("run_lad_distil", encoder), "--dropout", 0.3)
    speeds = {"plain": (), "compiled": ("--compile",), "again": ("--compile", "--gradient_checkpointing")}
    for name, speed in speeds.items():
        run("run_lad_distil", "--experiment", name, *lad, *speed)
        for one, other in zip(data.metrics("plain"), data.metrics(name), strict=True):
            assert other == pytest.approx(one, rel=1e-4)
    seconds = {name: data.config(name, name="run.json")["compile_seconds"] for name in ("plain", "compiled")}
    assert seconds["compiled"] > seconds["plain"] + 1
