"""Tests of the methods of the MNLI document: matching in stages, contrast with banks, students that are continued."""

import json
import os
import signal

import forks
import numpy as np
import pytest
import reference
import torch
from test_resume import Killed, die, interrupted

from fine_tune.model.classifier import Classifier
from fine_tune.model.encoder import pretrained_encoder
from fine_tune.model.load import load_run
from fine_tune.model.projection import ProjectedStudent
from fine_tune.tasks.table import TASKS

QUICK = ("--task", "sst2", "--device_id", -1, "--batch_size", 8, "--log_step", 1, "--total_step", 4, "--warmup_step", 1)
TAUGHT = (*QUICK, "--teacher_exp", "teacher")
MATCH, CONTRAST = "run_fine_tune_distill_mgpu", "run_fine_tune_contrast_distill"
LAYERS, SCL, KD = "run_layerwise_contrast_distill", "train_scl_from_ckpt", "train_kd_from_ckpt"
BOTH = ("--use_hidden_loss", "--use_classify_loss")
CASES = {
    "match": (MATCH, *TAUGHT, *BOTH, "--ce_weight", 0.5),
    "match in stages": (MATCH, *TAUGHT, *BOTH, "--ce_weight", 0.5, "--cls_steps", 2),
    "hidden": (MATCH, *TAUGHT, "--use_hidden_loss"),
    "contrast": (CONTRAST, *TAUGHT, "--neg_num", 3),
    "contrast in stages": (CONTRAST, *TAUGHT, "--neg_num", 3, "--two_stage", "--contrast_steps", 2),
    "layers": (LAYERS, *TAUGHT, "--neg_num", 3, "--defined_by_label"),
    "layers in stages": (LAYERS, *TAUGHT, "--neg_num", 3, "--contrast_steps", 2),
    "scl": (SCL, *QUICK, "--src_experiment", "source"),
    "kd": (KD, *TAUGHT, "--src_experiment", "source", "--softmax_temp", 3),
}
"""Script and flags of each way to train."""
SLOW = pytest.mark.slow
WAYS = pytest.mark.parametrize("way", [
    name if name == "layers in stages" else pytest.param(name, marks=SLOW)
    for name in CASES
])  # fmt: skip
OF = ("--experiment", "teacher", "--task", "sst2", "--dataset", "train", "--device_id", -1)


@pytest.fixture
def banks(teacher, run):
    """The teacher's folder, with all its banks."""
    run("build_logitsbank", *OF)
    run("build_membank", *OF)
    run("build_membank", *OF, "--layer_wise")
    return teacher


@pytest.fixture
def source(teacher, run):
    """A student to continue."""
    run(MATCH, "--experiment", "source", *TAUGHT, "--use_hidden_loss", "--seed", 7)


def prepared(way, request):
    """Script and flags of a way, with what it reads in place."""
    script, *words = CASES[way]
    for fixture in ["banks"] * (script in (CONTRAST, LAYERS)) + ["source"] * (script in (SCL, KD)):
        request.getfixturevalue(fixture)
    return script, words


def unchanged(one, other, part):
    """Whether a part of a model has the same weights in two states."""
    return all(torch.equal(weights, other[name]) for name, weights in one.items() if part in name)


@WAYS
def test_a_killed_and_a_stopped_run_go_on_to_the_last_bit(way, data, run, teacher, request, monkeypatch):
    """Killed in the first stage, in the middle of an update; then stopped in the second."""
    script, words = prepared(way, request)
    run(script, "--experiment", "whole", *words)
    ends = (("backward", 2, die, Killed), ("step", 2, lambda: os.kill(os.getpid(), signal.SIGTERM), SystemExit))
    for method, call, what, error in ends:
        with monkeypatch.context() as patch, pytest.raises(error):
            interrupted(patch, method, call, what)
            run(script, "--experiment", "cut", *words, "--state_step", 1, "--resume")
    run(script, "--experiment", "cut", *words, "--resume")
    assert data.metrics("cut") == data.metrics("whole")
    one, other = data.state("whole", 4), data.state("cut", 4)
    assert all(torch.equal(weights, other[key]) for key, weights in one.items())


@pytest.mark.slow
@pytest.mark.parametrize("way", CASES)
def test_two_processes_do_what_one_does(way, data, run, teacher, request, tmp_path):
    """To rounding where losses are of single rows; a supervised contrast is one of each process's share."""
    script, words = prepared(way, request)
    flags = (*words, "--dropout", 0, "--no_lazy_embedding")
    run(script, "--experiment", "one", *flags, "--accum_step", 2)
    processes = forks.start(data.root, tmp_path / "log", script, "--experiment", "two", *flags, ranks=2)
    assert forks.finish(processes) == [0, 0], (tmp_path / "log").read_text()
    for one, two in zip(data.metrics("one"), data.metrics("two"), strict=True):
        assert set(one) == set(two)
        if "scl_loss" not in one:
            assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)


CONTRASTED = {"contrast_loss"}, {"contrast_loss", "soft_loss", "hard_loss"}


@pytest.mark.parametrize(
    ("way", "first", "second"),
    [
        ("match in stages", {"hidden_loss"}, {"soft_loss", "hard_loss", "scl_loss"}),
        pytest.param("contrast in stages", *CONTRASTED, marks=SLOW),
        pytest.param("layers in stages", *CONTRASTED, marks=SLOW),
    ],
)
def test_a_stage_has_its_own_losses_and_moves_only_what_they_reach(way, first, second, data, run, teacher, request):
    """In the first stage the classifier does not, not even by weight decay; nor does the pooler, but for contrast."""
    script, words = prepared(way, request)
    run(script, "--experiment", "s", *words, "--ckpt_step", 1, "--lr", 0.01, "--warmup_step", 0)
    losses = [{name for name in entry if name.endswith("_loss")} for entry in data.metrics("s")]
    assert losses == [first] * 2 + [second] * 2
    states = {step: data.state("s", step) for step in (1, 2, 3)}
    pooled = script == CONTRAST
    assert unchanged(states[1], states[2], "linear_layer") and not unchanged(states[2], states[3], "linear_layer")
    assert unchanged(states[1], states[2], "pooler") == (not pooled)
    assert not unchanged(states[1], states[2], "layer.0.")


@SLOW
def test_a_log_entry_across_two_stages_has_the_mean_of_each(data, run, teacher):
    """Each loss over the updates that had it."""
    words = (MATCH, *TAUGHT[:-4], "--teacher_exp", "teacher", *BOTH, "--cls_steps", 2, "--dropout", 0)
    run(*words[:1], "--experiment", "fine", *words[1:])
    run(*words[:1], "--experiment", "s", *words[1:], "--log_step", 4)
    (entry,), entries = data.metrics("s"), data.metrics("fine")
    for name in ("hidden_loss", "soft_loss", "hard_loss"):
        assert entry[name] == pytest.approx(np.mean([one[name] for one in entries if name in one]), rel=1e-5)


@pytest.mark.slow
def test_a_dry_run_counts_each_stage_for_its_own_share(data, run, teacher, monkeypatch, capsys):
    from fine_tune.run import dry_run

    found, plain = [], dry_run.DryRun.__exit__
    monkeypatch.setattr(dry_run, "SECONDS", 0.0)
    monkeypatch.setattr(dry_run.DryRun, "__exit__", lambda self, *rest: (found.append(self.stages), plain(self, *rest)))
    run(MATCH, "--experiment", "s", *TAUGHT, "--total_step", 30, *BOTH, "--cls_steps", 20, "--dry_run")
    ((first, second),) = found
    assert (first[0], second[0]) == (20, 10) and len(first[1]) == len(second[1]) == 6
    assert "30, 10 of them tried" in capsys.readouterr().out


@SLOW
def test_a_first_stage_as_long_as_the_run_is_told(data, run, teacher, caplog):
    run(MATCH, "--experiment", "s", *TAUGHT, *BOTH, "--cls_steps", 4)
    assert "--cls_steps 4: the run ends at update 4, before the second stage" in caplog.text
    assert "hard_loss" not in data.metrics("s")[-1]


def test_the_hidden_loss_is_the_sum_over_layers(data, run, teacher, caplog):
    """PKD's is their mean: half of it, with two layers; and all that is computed is in the loss."""
    base = (*TAUGHT, "--dropout", 0)
    run("run_pkd_distill", "--experiment", "pkd", *base, "--softmax_temp", 2)
    run(MATCH, "--experiment", "s", *base, *BOTH, "--softmax_temp", 2, "--mu", 50, "--soft_weight", 0.3)
    assert "--mu 50 weighs the sum over 2 layers: 100 for their mean, as in the other scripts" in caplog.text
    one, two = data.metrics("pkd")[0], data.metrics("s")[0]
    assert two["hidden_loss"] == pytest.approx(2 * one["hidden_loss"], rel=1e-6)
    assert (two["soft_loss"], two["hard_loss"]) == pytest.approx((one["soft_loss"], one["hard_loss"]), rel=1e-6)
    assert two["loss"] == pytest.approx(50 * two["hidden_loss"] + 0.3 * two["soft_loss"] + 0.7 * two["hard_loss"])
    assert data.config("s")["layer_map"] == "2:1,4:2"


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.25, pytest.param(0, marks=SLOW), pytest.param(1, marks=SLOW)])
def test_a_loss_of_weight_zero_is_not_computed(weight, data, run, teacher):
    run(MATCH, "--experiment", "s", *TAUGHT, "--use_classify_loss", "--ce_weight", weight, "--soft_weight", 0.3)
    entry = data.metrics("s")[0]
    kd = 0.3 * entry.get("soft_loss", 0) + 0.7 * entry.get("hard_loss", 0)
    assert ("soft_loss" in entry, "scl_loss" in entry) == (weight > 0, weight < 1)
    assert entry["loss"] == pytest.approx(weight * kd + (1 - weight) * entry.get("scl_loss", 0))


def test_the_contrast_of_a_projected_student_sees_its_own_states(encoder):
    """Not those that were taken to the teacher's width."""
    classifier = Classifier(pretrained_encoder(encoder), 2, 0.0).eval()
    inputs = {"input_ids": torch.tensor([[2, 7, 9, 3]]), "attention_mask": None}
    inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    out = ProjectedStudent(classifier, 24)(**inputs)
    assert out.hidden_states[-1].shape == (1, 4, 24)
    torch.testing.assert_close(out.first, classifier(**inputs).hidden_states[-1][:, 0])


def first_batch(data, experiment, rows):
    """Outputs of a run's student, as it began, on some rows: logits, [CLS] after every layer, pooled output."""
    loaded = load_run(experiment, "bert", TASKS["sst2"], 1, None, "--ckpt")
    lines = data.file("SST-2/train.tsv").read_text(encoding="utf-8").splitlines()[1:]
    texts, label = zip(*(lines[row].rsplit("\t", 1) for row in rows), strict=True)
    words = loaded.tokenizer([text.strip() for text in texts], padding=True, return_tensors="pt")
    with torch.no_grad():
        out = loaded.model(**words)
    return [state[:, 0].numpy() for state in out.hidden_states], out.pooled.numpy(), np.array(label, int)


ALL = ("--dropout", 0, "--batch_size", 24, "--lr", 1e-12, "--warmup_step", 0, "--ckpt_step", 1, "--total_step", 1)


@pytest.mark.slow
def test_contrast_is_the_reference_on_the_bank(data, run, banks):
    """With all other rows as negatives, whatever their order."""
    run(CONTRAST, "--experiment", "s", *TAUGHT, *ALL, "--neg_num", 23)
    _, pooled, _ = first_batch(data, "s", range(24))
    bank = torch.load(banks / "membank.pt", weights_only=True)["membank"].double().numpy()
    negatives = np.stack([np.delete(bank, row, 0) for row in range(24)])
    want = reference.info_nce(pooled.astype(float), bank, negatives, 0.07)
    (entry,) = data.metrics("s")
    assert entry["contrast_loss"] == pytest.approx(want, rel=1e-4)
    assert entry["loss"] == pytest.approx(entry["contrast_loss"] + 0.2 * entry["soft_loss"] + 0.8 * entry["hard_loss"])


def test_layerwise_contrast_is_the_reference_on_the_banks(data, run, banks):
    """The sum over student layers, each with the bank of the teacher layer that it follows: 2 and 4."""
    run(LAYERS, "--experiment", "s", *TAUGHT, *ALL, "--neg_num", 23, "--contrast_temp", 0.5, "--contrast_weight", 3)
    states, _, _ = first_batch(data, "s", range(24))
    want = 0.0
    for state, number in zip(states, (1, 3), strict=True):
        bank = torch.load(banks / f"membank{number}.pt", weights_only=True)["membank"].double().numpy()
        negatives = np.stack([np.delete(bank, row, 0) for row in range(24)])
        want += reference.info_nce(state.astype(float), bank, negatives, 0.5)
    (entry,) = data.metrics("s")
    assert entry["contrast_loss"] == pytest.approx(want, rel=1e-4)
    kd = 0.2 * entry["soft_loss"] + 0.8 * entry["hard_loss"]
    assert entry["loss"] == pytest.approx(kd + 3 * entry["contrast_loss"])


@pytest.mark.slow
def test_supervised_contrast_is_the_reference_and_leaves_the_head_alone(data, run, source):
    before = {path.name: path.read_bytes() for path in data.run("source").iterdir() if path.is_file()}
    run(SCL, "--experiment", "s", *QUICK, "--src_experiment", "source", "--scl_temp", 0.3, *ALL)
    states, _, label = first_batch(data, "s", range(24))
    assert data.metrics("s")[0]["scl_loss"] == pytest.approx(
        reference.sup_con(states[-1].astype(float), label, 0.3), rel=1e-4
    )
    run(SCL, "--experiment", "far", *QUICK, "--src_experiment", "source", "--lr", 0.01, "--warmup_step", 0)
    one, other = data.state("source", 4), data.state("far", 4)
    assert unchanged(one, other, "linear_layer") and unchanged(one, other, "pooler")
    assert not unchanged(one, other, "layer.1.")
    assert {path.name: path.read_bytes() for path in data.run("source").iterdir() if path.is_file()} == before


@SLOW
def test_a_continued_run_takes_over_split_seed_and_sizes(data, run, source):
    run(SCL, "--experiment", "s", *QUICK, "--src_experiment", "source")
    config, old = data.config("s"), data.config("source")
    assert [config[name] for name in ("seed", "dataset", "max_seq_len", "dropout", "src_ckpt")] == [
        7,
        "train",
        24,
        0.1,
        4,
    ]
    assert config["seed"] == old["seed"] and config["max_seq_len"] == old["max_seq_len"]
    run(SCL, "--experiment", "own", *QUICK, "--src_experiment", "source", "--seed", 9, "--dropout", 0.4)
    assert data.config("own")["seed"] == 9 and data.config("own")["dropout"] == 0.4
    assert json.loads((data.run("own") / "encoder.json").read_text())["hidden_dropout_prob"] == 0.4
    run("run_fine_tune_eval", "--experiment", "own", "--task", "sst2", "--device_id", -1)
    run(KD, "--experiment", "kd", *TAUGHT, "--src_experiment", "own")
    assert data.config("kd")["seed"] == 9 and data.config("kd")["soft_weight"] == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [pytest.param(False, marks=SLOW), True])
def test_kd_of_a_continued_student_trains_all_of_it_unless_told_otherwise(frozen, data, run, source):
    flags = ("--lr", 0.01, "--warmup_step", 0, "--soft_weight", 0.7, "--softmax_temp", 3)
    run(KD, "--experiment", "s", *TAUGHT, "--src_experiment", "source", *flags, *["--freeze_encoder"] * frozen)
    one, other = data.state("source", 4), data.state("s", 4)
    assert not unchanged(one, other, "linear_layer") and unchanged(one, other, "encoder.") == frozen
    for entry in data.metrics("s"):
        assert entry["loss"] == pytest.approx(0.7 * entry["soft_loss"] + 0.3 * entry["hard_loss"])


@pytest.mark.slow
def test_banks_answer_as_the_teacher_does(data, run, banks):
    """KD to the last bit; PKD, which normalises [CLS] itself, to rounding; and no weights of the teacher are kept."""
    run("run_kd_distil", "--experiment", "live", *TAUGHT)
    run("run_kd_distil", "--experiment", "read", *TAUGHT, "--teacher_cache", "bank")
    assert data.metrics("read") == data.metrics("live")
    run("run_pkd_distill", "--experiment", "live2", *TAUGHT, "--pkd_exp", "pkd-skip")
    run("run_pkd_distill", "--experiment", "read2", *TAUGHT, "--pkd_exp", "pkd-skip", "--teacher_cache", "bank")
    for one, other in zip(data.metrics("live2"), data.metrics("read2"), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)


@SLOW
def test_banks_of_the_released_code_are_read(data, run, banks, caplog):
    """They hold a column per row, and nothing of what they were made from."""
    for name in ("whole", "s"):
        run(LAYERS, "--experiment", name, *TAUGHT, "--neg_num", 3)
        for file in banks.glob("*bank*.pt"):
            held = {key: rows for key, rows in torch.load(file, weights_only=True).items() if key != "about"}
            torch.save({k: rows.t().contiguous() if k == "membank" else rows for k, rows in held.items()}, file)
    assert data.metrics("s") == data.metrics("whole")
    assert "membank1.pt does not say what it was made from" in caplog.text


@pytest.mark.parametrize(("change", "told"), [
    ({"checkpoint_sha256": "0"}, "was made from checkpoint_sha256 0, but the run is of checkpoint_sha256 "),
    pytest.param({"split": "dev"}, "was made from split dev, but the run is of split train; make it anew: python "
     "build_membank.py --experiment teacher --model bert --task sst2 --dataset train --ckpt 4 --layer_wise --overwrite",
     marks=SLOW),
    pytest.param({"width": 8}, "was made from width 8, but the run is of width 16", marks=SLOW),
])  # fmt: skip
def test_a_bank_of_something_else_is_refused_with_both_sides(change, told, data, banks, refused):
    file = banks / "membank3.pt"
    held = torch.load(file, weights_only=True)
    torch.save({"membank": held["membank"], "about": held["about"] | change}, file)
    assert told in refused(LAYERS, "--experiment", "s", *TAUGHT, "--neg_num", 3)
    assert not data.run("s").exists()


MAKE = "--experiment teacher --model bert --task sst2 --dataset train --ckpt 4"
CHECKS = [
    (LAYERS, ("--neg_num", 3), f"logitsbank-4.pt; make it with: python build_logitsbank.py {MAKE}"),
    (CONTRAST, (), f"membank.pt; make it with: python build_membank.py {MAKE}"),
    ("run_kd_distil", ("--teacher_cache", "bank"), f"logitsbank-4.pt; make it with: python build_logitsbank.py {MAKE}"),
    ("run_lad_distil", ("--teacher_cache", "bank"), "--teacher_cache bank: this method needs states of all tokens"),
    (CONTRAST, ("--d_model", 8, "--student_init", "random"), "--d_model 8: is contrasted with vectors of width 16"),
    (CONTRAST, ("--contrast_steps", 2), "--contrast_steps 2 has no effect without --two_stage"),
    (MATCH, (), "nothing to learn: give --use_hidden_loss, --use_classify_loss, or both"),
    (MATCH, ("--use_hidden_loss", "--cls_steps", 2), "the first stage needs --use_hidden_loss, the second"),
    (MATCH, ("--use_hidden_loss", "--ce_weight", 0.5), "--ce_weight 0.5 has no effect without --use_classify_loss"),
    (MATCH, ("--use_classify_loss", "--mu", 50), "--mu 50.0 has no effect without --use_hidden_loss"),
    (MATCH, ("--use_classify_loss", "--layer_map", "last"), "--layer_map last has no effect without --use_hidden_loss"),
    (MATCH, ("--use_classify_loss", "--ce_weight", 1.5), "--ce_weight must be in [0, 1], got 1.5"),
    (MATCH, ("--use_classify_loss", "--ce_weight", 0.5, "--accum_step", 4), "2 rows to a micro-batch are too few"),
    (KD, ("--src_experiment", "nobody"), "--src_experiment: no run at "),
    (KD, ("--src_experiment", "teacher", "--src_ckpt", 3), "--src_ckpt 3"),
    (KD, ("--src_experiment", "../x"), "--src_experiment may hold letters"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "flags", "told"),
    [check if number % 4 == 0 else pytest.param(*check, marks=SLOW) for number, check in enumerate(CHECKS)],
    ids=str,
)
def test_what_cannot_be_trained_is_refused_in_one_line(script, flags, told, data, teacher, refused):
    assert told in refused(script, "--experiment", "s", *TAUGHT, *flags)
    assert not data.run("s").exists()


@SLOW
def test_more_negatives_than_rows_are_refused(data, banks, refused):
    told = refused(LAYERS, "--experiment", "s", *TAUGHT, "--neg_num", 13, "--defined_by_label")
    assert told == "--neg_num 13: a row of sst2 train has 12 rows of another label"


def test_a_source_is_never_its_own_successor(data, source, refused):
    told = refused(SCL, "--experiment", "source", *QUICK, "--src_experiment", "source", "--overwrite")
    assert told == "--experiment source: is the source, which is left as it is; give another name"


@SLOW
def test_a_source_of_another_task_is_refused(data, run, source, refused):
    data.write("mrpc")
    told = refused(SCL, "--experiment", "s", "--task", "mrpc", "--src_experiment", "source", "--device_id", -1)
    assert "--src_experiment: no run at " in told and "runs of mrpc: none" in told


@pytest.mark.slow
@WAYS
def test_a_dry_run_leaves_nothing(way, data, teacher, run, request, monkeypatch, capsys):
    script, words = prepared(way, request)
    monkeypatch.setattr("fine_tune.run.dry_run.SECONDS", 0.0)
    before = set(data.root.rglob("*"))
    run(script, "--experiment", "s", *words, "--total_step", 20, "--dry_run")
    assert "Dry run: nothing is written" in capsys.readouterr().out
    assert {path for path in set(data.root.rglob("*")) - before if "cache" not in path.parts} == set()


@pytest.mark.slow
@WAYS
def test_the_configuration_repeats_the_run(way, data, run, teacher, request):
    script, words = prepared(way, request)
    run(script, "--experiment", "one", *words)
    run(script, "--from_config", data.run("one") / "config.json", "--experiment", "two")
    assert data.metrics("two") == data.metrics("one")
