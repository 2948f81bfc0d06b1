"""Tests of what all methods offer: layer maps, starts of the user's, and students of another width."""

import re

import pytest
import torch
from methods import EXACT, GATES, HIDDEN, LAD_PROBE, METHODS, PKD_PROBE, QUICK, flags

from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import OptimConfig, SpeedConfig, StepConfig
from fine_tune.hardware.device import Devices
from fine_tune.model.classifier import Classifier
from fine_tune.model.encoder import pretrained_encoder
from fine_tune.model.projection import ProjectedStudent, without_projection
from fine_tune.run.session import Session
from fine_tune.run.start import Prepared, new_part
from fine_tune.tasks.table import TASKS

CPU = torch.device("cpu")
TAUGHT = (*QUICK, "--teacher_exp", "teacher")
NARROW = ("--d_model", 8, "--num_attention_heads", 2, "--d_ff", 32, "--student_init", "random")

MAPPED = {
    "run_lad_distil": (),
    "run_lad_no_distil": (),
    "run_pkd_distill": (),
    "run_alp_distil": ("--alp_exp", "alp-kd-hidden-v2"),
}
"""Scripts that take a layer map, with the flags that let them."""
TEACHER_RANGE, STUDENT_RANGE = r"1\.\.4", r"1\.\.2"
BAD_MAPS = {
    "0:1": f"no teacher layer 0; .*{TEACHER_RANGE}", "5:1": f"no teacher layer 5; .*{TEACHER_RANGE}",
    "2:0": f"no student layer 0; .*{STUDENT_RANGE}", "2:3": f"no student layer 3; .*{STUDENT_RANGE}",
    "2:1,4:1": f"named twice; .*{STUDENT_RANGE}", "2": f"{TEACHER_RANGE} and {STUDENT_RANGE}",
    "2:1:1": f"{TEACHER_RANGE} and {STUDENT_RANGE}", "a:b": f"{TEACHER_RANGE} and {STUDENT_RANGE}",
    "uniform": "neither even, first, last nor pairs", "": f"{TEACHER_RANGE} and {STUDENT_RANGE}",
    "2:1,": f"{TEACHER_RANGE} and {STUDENT_RANGE}", "2:1;4:2": f"{TEACHER_RANGE} and {STUDENT_RANGE}",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", ["run_lad_distil", *(pytest.param(script, marks=pytest.mark.slow) for script in list(MAPPED)[1:])]
)
def test_a_map_that_does_not_fit_is_refused_in_one_line(script, data, refused, teacher, tmp_path):
    for text, reason in BAD_MAPS.items():
        message = refused(script, "--experiment", "x", *TAUGHT, *MAPPED[script], f"--layer_map={text}")
        assert message.startswith("--layer_map") and text in message
        with pytest.raises(ValueError, match=reason):
            raise ValueError(message)
    assert not data.run("x").exists()


LAD_USER, PARTIAL = ("--probing_exp", "lad_user_defined"), ("--probing_exp", "partial_lad")
LAD_CLS, PKD_USER = ("--probing_exp", "lad_cls"), ("--probing_exp", "pkd_hidden_user_defined")
BAD_LISTS = [
    (LAD_PROBE, (*LAD_USER, "--gate_indices", "5,2"), f"--gate_indices 5,2: .*no teacher layer 5; .*{TEACHER_RANGE}"),
    (LAD_PROBE, (*LAD_USER, "--gate_indices", "0"), f"--gate_indices 0: .*no teacher layer 0; .*{TEACHER_RANGE}"),
    (LAD_PROBE, (*LAD_USER, "--gate_indices", "a"), f"--gate_indices 'a': not a list .*{TEACHER_RANGE}"),
    (LAD_PROBE, (*LAD_USER, "--gate_indices="), f"--gate_indices '': not a list .*{TEACHER_RANGE}"),
    (LAD_PROBE, (*LAD_USER, "--gate_indices", "2,4", "--student_indices", "1,3"), f"layer 3; .*{STUDENT_RANGE}"),
    (LAD_PROBE, (*LAD_USER, "--gate_indices", "2,4", "--student_indices", "1,1"), f"twice; .*{STUDENT_RANGE}"),
    (LAD_PROBE, (*LAD_USER, "--gate_indices", "2,4", "--student_indices", "1"), "2,4 names 2 layers, .* 1 1: .*many"),
    (LAD_PROBE, (*LAD_USER, "--gate_indices", "2,3,4"), "2,3,4 names 3 layers for a student of 2"),
    (LAD_PROBE, LAD_USER, f"lad_user_defined needs --gate_indices, in {TEACHER_RANGE}"),
    (LAD_PROBE, PARTIAL, f"partial_lad needs --gate_indices, in {TEACHER_RANGE}"),
    (LAD_PROBE, (*PARTIAL, "--gate_indices", "4,2"), "--gate_indices 4,2: .*ascending order, each once"),
    (LAD_PROBE, (*PARTIAL, "--gate_indices", "2,2"), "--gate_indices 2,2: .*ascending order, each once"),
    (LAD_PROBE, (*PARTIAL, "--gate_indices", "1,2,3"), "1,2,3 names 3 gates for 2 student layers"),
    (LAD_PROBE, (*PARTIAL, "--gate_indices", "3"), f"leaves 1 student layers to teacher layers 5; .*{TEACHER_RANGE}"),
    (LAD_PROBE, (*PARTIAL, "--gate_indices", "6"), f"no teacher layer 6; .*{TEACHER_RANGE}"),
    (LAD_PROBE, (*PARTIAL, "--gate_indices", "2", "--student_indices", "1"), f"teaches all of {STUDENT_RANGE}"),
    (LAD_PROBE, (*PARTIAL, "--gate_indices", "2", "--student_indices="), f"'': not a list .*{STUDENT_RANGE}"),
    (LAD_PROBE, (*LAD_CLS, "--student_indices", "1"), f"lad_cls needs --gate_indices, in {TEACHER_RANGE}"),
    (LAD_PROBE, (*LAD_CLS, "--gate_norm", "token"), "--gate_norm token: lad_cls"),
    (PKD_PROBE, (*PKD_USER, "--teacher_indices", "5,2"), f"--teacher_indices 5,2: .*layer 5; .*{TEACHER_RANGE}"),
    (PKD_PROBE, (*PKD_USER, "--teacher_indices", "2.5"), f"--teacher_indices '2.5': not a list .*{TEACHER_RANGE}"),
    (PKD_PROBE, (*PKD_USER, "--teacher_indices", "2", "--student_indices", "0"), f"layer 0; .*{STUDENT_RANGE}"),
    (PKD_PROBE, PKD_USER, "the following arguments are required: --teacher_indices"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "words", "reason"),
    [pytest.param(*case, marks=pytest.mark.slow if number % 3 else [], id=f"{case[0]} {' '.join(map(str, case[1]))}")
     for number, case in enumerate(BAD_LISTS)],
)  # fmt: skip
def test_lists_of_layers_that_do_not_fit_are_refused_in_one_line(script, words, reason, data, refused, teacher):
    message = refused(script, "--experiment", "x", *TAUGHT, *words)
    with pytest.raises(ValueError, match=reason):
        raise ValueError(message)
    assert not data.run("x").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("alp-kd", "every student layer looks at all teacher layers"), ("pkd-skip", "pkd-skip is 2:1"),
        ("alp-kd-hidden", "every student layer looks at all teacher layers"), ("pkd-last", "pkd-last is 3:1"),
    ],
)  # fmt: skip
def test_a_method_without_a_choice_of_layers_refuses_a_map(method, reason, data, refused, teacher):
    for text in ("even", "2:1,4:2", ""):
        script, *words = flags(method, *TAUGHT, f"--layer_map={text}")
        message = refused(script, "--experiment", "x", *words)
        assert message.startswith("--layer_map") and (reason in message or not text)
    assert not data.run("x").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "pairs"),
    [(None, "2:1,4:2"), ("even", "2:1,4:2"), ("first", "1:1,2:2"), ("last", "3:1,4:2"), ("4:2,3:1", "3:1,4:2"),
     ("1:2", "1:2")],
)  # fmt: skip
def test_the_map_is_printed_before_the_first_update_and_saved_as_pairs(
    text, pairs, data, run, teacher, capsys, monkeypatch
):
    def stop(self, until=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "steps", stop)
    with pytest.raises(SystemExit, match="130"):
        run("run_pkd_distill", "--experiment", "x", *TAUGHT, *(() if text is None else ("--layer_map", text)))
    assert data.config("x")["layer_map"] == pairs and data.metrics("x") == []
    told = capsys.readouterr().out
    for taught, learning in (pair.split(":") for pair in pairs.split(",")):
        (line,) = [line for line in told.splitlines() if line.split()[:2] == ["layer", learning]]
        assert line.endswith(f"learns teacher layer {taught}")
    assert told.count("learns teacher layer") == len(pairs.split(","))
    assert re.search(rf"^ +layer_map +{pairs}$", told, re.MULTILINE)


def copied(state, source, layers) -> dict[int, bool]:
    """Whether each student layer holds the weights of a teacher layer; both 0-based."""
    found = {}
    for student, teacher in layers.items():
        mine, its = (f"encoder.encoder.layer.{number}." for number in (student, teacher))
        keys = [key for key in state if key.startswith(mine)]
        assert len(keys) == 16
        found[student] = all(torch.equal(state[key], source[key.replace(mine, its)]) for key in keys)
    return found


STARTS = [
    ((), {0: 0, 1: 3, 2: 2}), (("--student_init", "first"), {0: 0, 1: 3, 2: 2}),
    (("--student_init", "even", "--num_hidden_layers", 2), {0: 1, 1: 3}),
    (("--student_init", "first", "--num_hidden_layers", 2), {0: 0, 1: 3}),
    (("--init_from", "pretrained"), {0: 0, 1: 3, 2: 2}),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("more", "layers"), STARTS, ids=str)
@pytest.mark.parametrize(("script", "words"), [(LAD_PROBE, (*LAD_USER, "--gate_indices", 4)),
                                               (PKD_PROBE, (*PKD_USER, "--teacher_indices", 4))])  # fmt: skip
def test_named_student_layers_start_from_the_layers_they_learn(
    script, words, more, layers, data, run, teacher, encoder
):
    """Student layer 2 learns teacher layer 4 and starts from it; the others start as `--student_init` says."""
    flags = (*EXACT, "--ckpt_step", 1, "--num_hidden_layers", 3, *words, "--student_indices", 2, *more)
    run(script, "--experiment", "s", *flags)
    source = data.state("teacher", 4)
    if "pretrained" in more:
        source = {f"encoder.{name}": value for name, value in pretrained_encoder(encoder).state_dict().items()}
    state = data.state("s", 1)  # the first update has a learning rate of 0
    assert all(copied(state, source, layers).values())
    assert torch.equal(state["encoder.pooler.dense.weight"], source["encoder.pooler.dense.weight"])
    if "pretrained" not in more:
        run(script, "--experiment", "r", *flags, "--student_init", "random")
        assert not any(copied(data.state("r", 1), source, layers).values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "words"),
    [(LAD_PROBE, (*LAD_USER, "--gate_indices", 3)), (PKD_PROBE, (*PKD_USER, "--teacher_indices", 3)),
     ("run_lad_no_distil", ("--layer_map", "3:2")), ("run_pkd_distill", ("--layer_map", "3:2"))],
)  # fmt: skip
def test_only_a_layer_that_is_named_has_a_hidden_loss(script, words, data, run, teacher):
    """Without other losses and without decay nothing above it moves; below it all of the student does."""
    alone = ("--soft_weight", 0, "--hard_weight", 0, "--weight_decay", 0, "--lr", 0.01, "--num_hidden_layers", 3)
    probe = ("--student_indices", 2) if script in (LAD_PROBE, PKD_PROBE) else ()
    run(script, "--experiment", "s", *EXACT, "--ckpt_step", 1, *words, *probe, *alone)
    first, last = data.state("s", 1), data.state("s", 4)
    moved = {key for key in first if not torch.equal(first[key], last[key])}
    assert not any("layer.2." in key or "pooler" in key or "linear_layer" in key for key in moved)
    assert any("layer.0." in key for key in moved) and any("layer.1." in key for key in moved)


@pytest.fixture
def projected(monkeypatch) -> list[tuple[ProjectedStudent, torch.Tensor]]:
    """Every projected student that is built, and the map it starts with."""
    found, plain = [], ProjectedStudent.__init__

    def watch(self, *given):
        plain(self, *given)
        found.append((self, self.projection.weight.detach().clone()))

    monkeypatch.setattr(ProjectedStudent, "__init__", watch)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_narrower_student_learns(method, data, run, teacher, projected):
    """Its hidden loss falls, its projection is trained and left behind, its checkpoint is its own alone."""
    long = ("--total_step", 60, "--batch_size", 24, "--ckpt_step", 30, "--lr", 0.01)
    script, *words = flags(method, *EXACT, *long, *NARROW)
    run(script, "--experiment", "s", *words)
    state = data.state("s", 60)
    assert state["encoder.embeddings.word_embeddings.weight"].shape == (60, 8)
    assert not any("projection" in name or name.startswith("classifier") for name in state)
    gates = {f"gate-{layer - 1}-{step}.pt" for layer in GATES.get(method, ()) for step in (30, 60)}
    assert {file.name for file in data.run("s").glob("*.pt")} == {"model-30.pt", "model-60.pt"} | gates
    assert data.config("s")["d_model"] == 8 and data.config("s", name="encoder.json")["hidden_size"] == 8
    run("run_fine_tune_eval", "--experiment", "s", "--task", "sst2", "--device_id", -1)  # loads strictly
    assert set(data.config("s", name="eval_dev.json")["checkpoints"]) == {"30", "60"}
    assert len(projected) == (method in HIDDEN)
    if method in HIDDEN:
        hidden = [line["hidden_loss"] for line in data.metrics("s")]
        assert sum(hidden[-10:]) < 0.8 * sum(hidden[:10])
        ((student, start),) = projected
        assert (student.projection.weight - start).abs().max() > 0.01 and start.std() < 0.04


@pytest.mark.slow
def test_a_student_of_another_width_is_projected_and_says_so(data, run, teacher, projected, capsys):
    for method, width in (("lad_no", 8), ("kd", 8), ("pkd-skip", 32)):
        script, *words = flags(method, *EXACT, *NARROW, "--d_model", width, "--no_preflight", gate={"lr": 0.01})
        run(script, "--experiment", method, *words)
        told = capsys.readouterr().out
        assert (f"random, {width} to 16" in told) == (method != "kd")
        assert not any("projection" in name for name in data.state(method, 4))
    assert [student.projection.weight.shape for student, _ in projected] == [(16, 8), (16, 32)]
    run("run_student_fine_tune", "--experiment", "ft", *EXACT, *NARROW)
    assert len(projected) == 2 and data.state("ft", 4)["linear_layer.weight"].shape == (2, 8)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lad", "alp-kd", "pkd-skip"])
def test_micro_batches_change_nothing_for_a_narrower_student(method, data, run, teacher, projected):
    """Nor does a hidden loss of no weight: its losses are those of KD."""
    plain = ("--eps", 1, "--lr", 1, "--max_norm", 1000)
    for name, more in {"one": (), "many": ("--accum_step", 4)}.items():
        script, *words = flags(method, *EXACT, *NARROW, *plain, *more)
        run(script, "--experiment", name, *words)
    one, many = ([line["hidden_loss"] for line in data.metrics(name)] for name in ("one", "many"))
    assert many == pytest.approx(one, rel=1e-5, abs=1e-6)
    torch.testing.assert_close(*(student.projection.weight for student, _ in projected), rtol=1e-4, atol=1e-6)
    script, *words = flags(method, *EXACT, *NARROW, mu=0)
    run(script, "--experiment", "without", *words)
    run("run_kd_distil", "--experiment", "kd", *EXACT, *NARROW)
    without, kd = ([line["loss"] for line in data.metrics(name)] for name in ("without", "kd"))
    assert without == pytest.approx(kd, rel=1e-6)


def test_a_projected_student_has_its_own_logits_and_states_of_the_teachers_width(encoder):
    classifier = Classifier(pretrained_encoder(encoder), 2, 0.0).eval()
    student = ProjectedStudent(classifier, 24)
    ids = torch.randint(5, 60, (3, 7))
    inputs = {"input_ids": ids, "attention_mask": None, "token_type_ids": torch.zeros_like(ids)}
    got, want = student(**inputs), classifier(**inputs)
    assert torch.equal(got.logits, want.logits) and len(got.hidden_states) == 4
    for mine, its in zip(got.hidden_states, want.hidden_states, strict=True):
        assert mine.shape == (3, 7, 24)
        torch.testing.assert_close(mine, its @ student.projection.weight.T + student.projection.bias)
    assert without_projection(student) is classifier is without_projection(classifier)


def test_the_projection_is_trained_with_the_student_and_clipped_by_itself(encoder):
    classifier = Classifier(pretrained_encoder(encoder), 2, 0.0)
    student, steps = ProjectedStudent(classifier, 24), StepConfig(total_step=4, warmup_step=0)
    flags = Flags({OptimConfig: OptimConfig(), StepConfig: steps, SpeedConfig: SpeedConfig()})
    run = Prepared(flags, TASKS["sst2"], Devices(CPU, {"": CPU}), None, None, None)  # type: ignore[arg-type]
    part = new_part(run, "", student)
    trained = {weight for group in part.optimizer.param_groups for weight in group["params"]}
    words = classifier.encoder.get_input_embeddings().weight
    assert trained == set(student.parameters()) - {words} and part.lazy is not None
    assert [set(weights) for weights in part.clipped] == [
        set(classifier.parameters()) - {words}, set(student.projection.parameters()),
    ]  # fmt: skip


@pytest.mark.parametrize("method", ["pkd-hidden", "kd"])
def test_weights_of_another_width_cannot_be_copied(method, data, refused, teacher):
    script, *words = flags(method, *TAUGHT, "--d_model", 8)
    message = refused(script, "--experiment", "x", *words)
    assert "--student_init random" in message and not data.run("x").exists()
