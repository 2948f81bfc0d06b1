"""Tests of what is refused before a run starts, and of what is not: every finding, and none on a sound teacher."""

import json
import shutil
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import SIZES, Data, call, sentence
from transformers import BertConfig, BertModel

from fine_tune.data.batches import batch_tokens, trial_updates, updates_of
from fine_tune.data.tokens import load_split, load_tokenizer
from fine_tune.flags.shared import Pace, RunConfig
from fine_tune.model.classifier import Classifier
from fine_tune.model.load import fresh_teacher, load_run
from fine_tune.run import memory, preflight
from fine_tune.run import teacher_check as judge
from fine_tune.tasks.table import TASKS

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


NAMES = [name if name in ("boolq", "cola") else pytest.param(name, marks=pytest.mark.slow) for name in SOUND]
"""Of unlike classes, where it is hardest to tell a teacher that knows from one that does not, in the fast set."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", judge.ROWS)
def test_a_sound_teacher_is_never_refused(name, count):
    """Not one of 50, whether its score was recorded or not."""
    task, (accuracy, shares) = TASKS[name], SOUND[name]
    for seed in range(50):
        given = answers(task.num_class, count, accuracy, shares, seed)
        assert judge.fault(task, *given, told=None) is None
        assert judge.fault(task, *given, told=accuracy) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_teacher_that_guesses_is_refused_nearly_always(name):
    """Always if it says one thing only; if it says anything, some look as if they knew."""
    task, (_, shares) = TASKS[name], SOUND[name]
    found = 0
    for seed in range(200):
        gold = answers(task.num_class, 2048, 1, shares, seed).gold
        constant = np.full_like(gold, seed % task.num_class)
        assert "nothing to do with the labels" in (judge.fault(task, gold, constant, None) or "")
        guess = answers(task.num_class, 2048, 1, shares, seed + 1000).gold
        found += "nothing to do with the labels" in (judge.fault(task, gold, guess, None) or "")
    assert found >= 170


@pytest.mark.slow
@pytest.mark.parametrize(
    "count", [*judge.ROWS[:3], *(pytest.param(count, marks=pytest.mark.slow) for count in judge.ROWS[3:])]
)
def test_a_weak_teacher_is_not_taken_for_one_that_guesses(count):
    """55 % of two classes, never scored: few rows look like guessing, which is no evidence."""
    refused = sum(
        judge.fault(TASKS["qnli"], *answers(2, count, 0.55, seed=seed), None, 0.5) is not None for seed in range(400)
    )
    assert refused <= 4


def test_a_task_of_few_rows_is_let_through_and_said_not_to_be_judged(data, teacher, run, caplog):
    run(*LAD, *SHORT)
    (told,) = [text for text in caplog.messages if "too few to tell" in text]
    assert told.startswith(
        "teacher teacher_bert_sst2, checkpoint 4: 8 rows of dev are too few to tell whether it knows"
    )


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


def test_a_perfect_record_leaves_room_for_one_row_of_rounding():
    gold = np.arange(256) % 2
    guess = gold ^ (np.arange(256) == 0)
    assert judge.fault(TASKS["sst2"], gold, guess, told=1.0) is None
    assert "is recorded" in (judge.fault(TASKS["sst2"], gold, gold ^ (np.arange(256) < 40), told=1.0) or "")


def test_a_regression_is_judged_by_its_correlation():
    draw, task = np.random.default_rng(0), TASKS["stsb"]
    gold, noise = draw.uniform(0, 5, 256), draw.normal(0, 2, 256)
    assert judge.fault(task, gold, gold + noise, None) is None
    assert "nothing to do" in (judge.fault(task, gold, noise, None) or "")
    assert "nothing to do" in (judge.fault(task, gold, np.ones(256), None) or "")
    assert "nothing to do" in (judge.fault(task, gold, -gold, None) or "")
    assert "is recorded" in (judge.fault(task, gold, gold + 2 * noise, 0.9) or "")


def write_rows(data, split, count, first):
    """Write rows of SST-2."""
    rows = [f"{sentence(first + row)} \t{row % 2}" for row in range(count)]
    data.file(f"SST-2/{split}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def sound_data(encoder, tmp_path_factory):
    """A data folder with 400 dev rows, and a teacher that knows its task."""
    data = Data(tmp_path_factory.mktemp("sound"))
    data.write("sst2")
    write_rows(data, "dev", 400, 1000)
    write_rows(data, "train", 200, 5000)
    about = ("--experiment", "teacher", "--task", "sst2", "--ptrain_ver", encoder, "--max_seq_len", 24)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_DIR", str(data.root))
        duration = ("--total_step", 60, "--batch_size", 32, "--lr", 1e-2, "--dropout", 0)
        call("run_fine_tune", *about, *duration, "--device_id", -1)
    return data.root


@pytest.fixture
def sound(data, sound_data):
    """A copy of them in this test's data folder; the teacher's run."""
    shutil.copytree(sound_data, data.root, dirs_exist_ok=True)
    return data.run("teacher")


def swap(folder, name, change):
    """Change one tensor of a checkpoint."""
    file = folder / "model-60.pt"
    state = torch.load(file, weights_only=True)
    state[name] = change(state[name])
    torch.save(state, file)


def unlearned(data, teacher):
    """A head that says the same of all sentences."""
    swap(teacher, "linear_layer.weight", torch.zeros_like)


def reversed_head(data, teacher):
    """A head whose classes stand in the other order."""
    swap(teacher, "linear_layer.weight", lambda weight: weight.flip(0))
    swap(teacher, "linear_layer.bias", lambda bias: bias.flip(0))


def other_weights(data, teacher):
    """Weights that are not those that were scored."""
    (teacher / "eval_dev.json").write_text(json.dumps({"checkpoints": {"60": {"accuracy": 0.999}}}), encoding="utf-8")
    swap(teacher, "encoder.embeddings.word_embeddings.weight", lambda weight: weight + torch.randn_like(weight))


def other_names(data, teacher):
    """Class names of another task."""
    config = json.loads((teacher / "encoder.json").read_text(encoding="utf-8"))
    config |= {"id2label": {"0": "entailment", "1": "not_entailment"}}
    (teacher / "encoder.json").write_text(json.dumps(config), encoding="utf-8")


def leaked(data, teacher):
    """Dev rows among the training rows."""
    rows = data.file("SST-2/dev.tsv").read_text(encoding="utf-8").splitlines()[1:]
    with data.file("SST-2/train.tsv").open("a", encoding="utf-8") as file:
        file.write("\n".join(rows[:100]) + "\n")


def strange_words(data, teacher):
    """Text of another language."""
    rows = [f"qwertz asdf yxcv {row} \t{row % 2}" for row in range(50)]
    data.file("SST-2/train.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n", encoding="utf-8")


def nothing(data, teacher):
    """Leave all as it is."""


LARGE = ("--student_init", "random", "--d_ff", 4000)
FAULTS = {
    "unlearned": (unlearned, (), "its answers have nothing to do with the labels; was it fine-tuned on sst2?"),
    "reversed": (reversed_head, (), "0 means 1, 1 means 0: its classes have another order than the data's"),
    "weights": (other_weights, (), "where 0.999 is recorded: are weights, tokenizer and data what they were?"),
    "names": (other_names, (), "classes are entailment, not_entailment, those of sst2 0, 1"),
    "leak": (leaked, (), "% of the rows of sst2 dev are among those of train"),
    "words": (strange_words, (), "are unknown to the tokenizer"),
    "size": (nothing, LARGE, "the student is larger than its teacher: 2 layers of width 16 and 4000, the teacher 4"),
    "warm-up": (nothing, ("--warmup_step", 4), "--warmup_step 4 is not over by the last update (4)"),
    "gates": (nothing, ("--gate_total_step", 4, "--gate_warmup_step", 9), "--gate_warmup_step 9 is not over"),
}


@pytest.mark.parametrize("name", [*FAULTS][:2] + [pytest.param(n, marks=pytest.mark.slow) for n in [*FAULTS][2:]])
def test_a_wrong_run_is_refused_before_it_leaves_anything(name, data, sound, run, refused):
    spoil, words, message = FAULTS[name]
    spoil(data, sound)
    assert message in refused(*LAD, *SHORT, *words)
    assert not data.run("x").exists()
    run(*LAD, *SHORT, *words, "--no_preflight")


@pytest.mark.slow
def test_a_sound_run_is_let_through(data, sound, run):
    for script, more in (("run_lad_distil", ()), ("run_kd_distil", ()), ("run_student_fine_tune", ())):
        run(script, "--experiment", script, *LAD[3:], *SHORT, *more)


def test_too_little_disk_is_refused(data, sound, refused, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=500))
    assert "may take 0.0 GB" in refused(*LAD, *SHORT)


@pytest.mark.parametrize(
    ("free", "told"), [*(pytest.param(free, "", marks=pytest.mark.slow) for free in (None, 10**12)), (1, "refused")]
)
def test_too_little_memory_is_refused_with_what_helps(free, told, data, sound, run, refused, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda _: free)
    if not told:
        run(*LAD, *SHORT)
        return
    message = refused(*LAD, *SHORT)
    assert "GB more memory on cpu, where 0.0 GB are free; --accum_step 2 or --gradient_checkpointing" in message
    assert not data.run("x").exists()


def test_memory_that_may_not_suffice_is_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(memory, "free", lambda _: 10**9)
    preflight.check_memory(round(1.2 * 10**9), torch.device("cpu"))
    assert caplog.messages == ["the run may take 1.2 GB more memory on cpu, where 1.0 GB are free"]
    with pytest.raises(ValueError, match="1.3 GB more memory"):
        preflight.check_memory(round(1.3 * 10**9), torch.device("cpu"))


def test_free_memory_is_what_the_system_and_the_limits_leave(monkeypatch):
    cpu = torch.device("cpu")
    assert 10**8 < memory.taken(cpu) and 10**8 < memory.free(cpu)
    files = {"/proc/meminfo": ["MemTotal: 9 kB", "MemAvailable: 7000 kB"], "/sys/fs/cgroup/memory.max": ["5000000"]}
    monkeypatch.setattr(memory, "lines", lambda file: files.get(file, []))
    assert memory.free(cpu) == 7000 * 1024
    files["/sys/fs/cgroup/memory.current"] = ["1000000"]
    assert memory.free(cpu) == 4_000_000
    files["/sys/fs/cgroup/memory.max"] = ["max"]
    assert memory.free(cpu) == 7000 * 1024
    files.clear()
    assert memory.free(cpu) is None


def test_a_dry_run_tries_the_update_that_takes_most(data, encoder):
    tokenizer = load_tokenizer(encoder)
    rows = load_split(TASKS["sst2"], "train", tokenizer, 24)
    cfg = RunConfig(experiment="x", task="sst2", batch_size=4, seed=3)
    tokens = batch_tokens(cfg, rows, 100)
    assert len(tokens) == len(rows) // 4 and len(batch_tokens(cfg, rows, 2)) == 2
    own, tried = updates_of(cfg, rows), trial_updates(partial(updates_of, cfg, rows), tokens, first=3)
    wanted = [next(own) for _ in range(5)]
    found = [next(tried) for _ in range(6)]
    inputs = [batch.student["input_ids"] for (batch,) in found]
    assert [len(batch.rows) for (batch,) in found] == [4] * 6 and inputs[3].numel() == tokens.max()
    assert [batch.rows.tolist() for (batch,) in found[:3] + found[4:]] == [b.rows.tolist() for (b,) in wanted]


@pytest.mark.slow
def test_an_evaluation_of_another_tasks_run_is_refused(data, sound, run, refused):
    """Of other classes, or with another tokenizer, too."""
    ask = ("run_fine_tune_eval", "--experiment", "teacher", "--task", "sst2", "--device_id", -1)
    run(*ask)
    smaller = sound.parent / "smaller"
    shutil.copytree(sound / "tokenizer", smaller)
    text = (smaller / "tokenizer.json").read_text(encoding="utf-8")
    (smaller / "tokenizer.json").write_text(text.replace('"good"', '"gut"'), encoding="utf-8")
    assert "which the model was trained with" in refused(*ask, "--ptrain_ver", smaller)
    run(*ask, "--ptrain_ver", smaller, "--no_preflight")
    other_names(data, sound)
    assert "classes are entailment" in refused(*ask)
    config = data.config("teacher")
    (sound / "config.json").write_text(json.dumps(config | {"task": "stsb", "num_class": 1}), encoding="utf-8")
    for more in ((), ("--no_preflight",)):
        assert "is for stsb with 1 classes, not for sst2" in refused(*ask, *more)


def test_a_dry_run_refuses_the_cache_that_the_run_would(data, sound, refused):
    told = "--teacher_cache logits: this method needs states of its teacher"
    assert told in refused(*LAD, *SHORT, "--teacher_cache", "logits", "--dry_run")


@pytest.mark.slow
def test_what_a_run_holds_already_is_room_for_it(data, sound, run, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    run(*LAD, *SHORT)
    held = sum(file.stat().st_size for file in data.run("x").glob("*.pt"))
    need = preflight.disk_use(Pace(), 4, [load_run("x", "bert", TASKS["sst2"], None, None, "").model])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2 * need - held))
    run(*LAD, *SHORT, "--overwrite")


def test_a_student_of_a_teacher_with_shared_layers_is_not_larger(albert):
    """An ALBERT of four layers has the weights of one."""
    teacher, _ = fresh_teacher("albert", albert, TASKS["sst2"], 0)
    student = Classifier(BertModel(BertConfig(**{**SIZES, "num_hidden_layers": 3})), 2, 0)
    preflight.check_size(teacher, student)
    assert sum(p.numel() for p in student.parameters()) > sum(p.numel() for p in teacher.parameters())
    with pytest.raises(ValueError, match=r"5 layers of width 16 and 32, the teacher 4 layers of width 16 and 32"):
        preflight.check_size(teacher, Classifier(BertModel(BertConfig(**{**SIZES, "num_hidden_layers": 5})), 2, 0))


@pytest.mark.slow
@pytest.mark.parametrize("script", ["run_lad_distil", "run_fine_tune"])
def test_a_dry_run_tells_and_leaves_nothing(script, data, sound, run, encoder, capsys):
    before = sorted(path for path in (data.root / "fine_tune_experiment").rglob("*"))
    own = LAD[3:] if script == "run_lad_distil" else (*LAD[5:], "--ptrain_ver", encoder, "--max_seq_len", 24)
    run(script, "--experiment", "x", *own, *SHORT, "--dry_run")
    told = capsys.readouterr().out
    assert "nothing is written" in told and "4, 4 of them tried" in told and "ms an update" in told
    assert all(word in told for word in ("rows  ", "tokens  ", "disk  ", "peak memory  "))
    assert told.count("learns teacher layer") == (2 if script == "run_lad_distil" else 0)
    assert sorted(path for path in (data.root / "fine_tune_experiment").rglob("*")) == before
