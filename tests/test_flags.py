"""Tests over the parsers of all scripts: one meaning per flag, none without an effect, and the documents' commands."""

import argparse
import dataclasses
import importlib
import re
import subprocess
import sys
from collections import defaultdict

import pytest

from fine_tune.config import GROUPS, EvalConfig
from fine_tune.path import PROJECT

SCRIPTS = sorted(file.stem for file in PROJECT.glob("*.py") if "build_parser(" in file.read_text(encoding="utf-8"))
TRAIN = [name for name in SCRIPTS if name.startswith("run_") and not name.endswith("_eval")]
READ = ["run_fine_tune_eval", "generate_test_prediction"]
FIELDS = {field.name for group in (*GROUPS, EvalConfig) for field in dataclasses.fields(group)}

# Defaults that a script sets for itself (`set_defaults`), beside those of the fields.
OWN_DEFAULTS = {
    "run_lad_distil": {"lr": 1e-4, "gate_lr": 1e-6},
    "run_lad_distil_epoch": {"lr": 1e-4, "gate_lr": 1e-6, "hidden_mse_weight": 1.0},
    "run_student_fine_tune": {"lr": 1e-4},
    "generate_test_prediction": {"dataset": "test"},
}
# Flags whose help differs: left open, they mean something else for a teacher than for a student; `--ckpt` is the first
# checkpoint to score in one script and the one to predict with in the other.
HELP_DIFFERS = {"num_class", "ptrain_ver", "ckpt"}


def actions(script: str) -> dict[str, argparse.Action]:
    """The options of a script by destination."""
    parser = importlib.import_module(script).build_parser()
    return {action.dest: action for action in parser._actions if action.dest != "help" and action.option_strings}


def declared_default(dest: str, script: str):
    """The default of the field behind an option."""
    name = dest.removeprefix("gate_") if dest not in FIELDS else dest
    if script in READ and name in {field.name for field in dataclasses.fields(EvalConfig)}:
        groups = (EvalConfig,)
    else:
        groups = GROUPS
    defaults = [f.default for group in groups for f in dataclasses.fields(group) if f.name == name]
    return [None if default is dataclasses.MISSING else default for default in defaults]


def bare(text: str) -> str:
    """A help text without its default."""
    return re.sub(r" \(default: .*\)$", "", text)


@pytest.mark.parametrize("scripts", [TRAIN, READ], ids=["training", "reading"])
def test_a_flag_means_the_same_in_every_script(scripts):
    seen = defaultdict(set)
    for script in scripts:
        for dest, action in actions(script).items():
            kind = (type(action).__name__, action.type, tuple(action.choices or ()), action.nargs, action.required)
            seen[dest].add((*kind, "" if dest in HELP_DIFFERS else bare(action.help)))
            seen[f"{dest} spellings"].add(tuple(action.option_strings))
    assert {dest: kinds for dest, kinds in seen.items() if len(kinds) > 1} == {}


def test_a_flag_has_one_type_and_one_choice_in_training_and_reading_scripts():
    seen = defaultdict(set)
    for script in TRAIN + READ:
        for dest, action in actions(script).items():
            seen[dest].add((type(action).__name__, action.type, tuple(action.choices or ()), action.nargs))
    assert {dest: kinds for dest, kinds in seen.items() if len(kinds) > 1} == {}


@pytest.mark.parametrize("script", TRAIN + READ)
def test_defaults_are_those_of_the_fields_or_listed_here(script):
    parser, own = importlib.import_module(script).build_parser(), {}
    for dest in actions(script):
        allowed = declared_default(dest, script)
        if allowed and parser.get_default(dest) not in allowed:
            own[dest] = parser.get_default(dest)
    assert own == OWN_DEFAULTS.get(script, {})


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_tells_the_default_that_holds(script):
    parser = importlib.import_module(script).build_parser()
    for dest, action in actions(script).items():
        told = re.search(r"\(default: ([^ )]+)\)", (action.help or "") % {**vars(action), "prog": "x"})
        if told and told[1] != "all" and parser.get_default(dest) is not None:
            assert told[1] == str(parser.get_default(dest)), action.option_strings


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_option_has_help_and_is_a_field_or_is_read(script):
    source = (PROJECT / f"{script}.py").read_text(encoding="utf-8")
    for dest, action in actions(script).items():
        assert action.help
        field = dest in FIELDS or dest.removeprefix("gate_") in FIELDS
        assert (field and script in TRAIN + READ) or re.search(rf"\bargs\.{dest}\b", source), dest


def test_every_field_is_an_option_of_some_script():
    options = {dest for script in TRAIN + READ for dest in actions(script)}
    assert options >= FIELDS


@pytest.mark.parametrize("script", TRAIN + READ)
def test_options_are_not_abbreviated(script):
    """What an abbreviation means could change with the next flag."""
    assert importlib.import_module(script).build_parser().allow_abbrev is False


def test_help_of_no_script_loads_torch_or_transformers():
    code = """
import contextlib, io, runpy, sys
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        assert end.code in (0, None), (script, end.code)
    assert out.getvalue().startswith("usage: "), script
    heavy = {"torch", "transformers", "numpy", "sklearn", "scipy"} & set(sys.modules)
    assert not heavy, (script, heavy)
print("all asked")
"""
    files = [str(PROJECT / f"{script}.py") for script in SCRIPTS]
    told = subprocess.run([sys.executable, "-c", code, *files], cwd=PROJECT, capture_output=True, text=True)
    assert told.stdout == "all asked\n", told.stderr


# The flag lists of the SST-2 document of the released project, as they stand there.
DOCUMENT = {
    "run_fine_tune": """
        --experiment teacher_huggingface --model bert --ptrain_ver bert-base-uncased --task sst2 --dataset train
        --num_class 2 --accum_step 1 --batch_size 32 --beta1 0.9 --beta2 0.999 --ckpt_step 2105 --dropout 0.1 --eps 1e-8
        --log_step 500 --lr 2e-5 --max_norm 1.0 --max_seq_len 128 --device_id 1 --seed 42 --total_step 6315
        --warmup_step 1894 --weight_decay 0.01""",
    "run_lad_distil": """
        --teacher_exp teacher_huggingface --tmodel bert --tckpt 6315 --experiment LAD_soft_5_42 --model bert --task sst2
        --accum_step 1 --batch_size 32 --beta1 0.9 --beta2 0.999 --gate_beta1 0.9 --gate_beta2 0.999 --ckpt_step 2000
        --d_ff 3072 --d_model 768 --dropout 0.1 --eps 1e-8 --log_step 100 --lr 1e-4 --gate_lr 1e-6 --max_norm 1.0
        --gate_max_norm 1.0 --num_attention_heads 12 --num_hidden_layers 6 --type_vocab_size 2 --total_step 42100
        --warmup_step 12630 --gate_total_step 42100 --gate_warmup_step 12630 --weight_decay 0.01
        --gate_weight_decay 0.01 --device_id 1 --tdevice_id 1 --gate_device_id 1 --seed 42 --softmax_temp 20
        --soft_weight 0.5 --hard_weight 0.5 --mu 1000""",
    "run_fine_tune_eval": """
        --experiment partial_LAD_0_42 --model bert --task sst2 --dataset dev --batch_size 512 --device_id 2""",
    "generate_test_prediction": """
        --experiment LAD_soft_5_42 --model bert --task sst2 --dataset test --batch_size 256 --ckpt 28000
        --device_id 1""",
}


@pytest.mark.parametrize("script", DOCUMENT)
def test_the_documents_commands_parse(script):
    words = DOCUMENT[script].split()
    args = vars(importlib.import_module(script).build_parser().parse_args(words))
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert all(name.startswith("--") for name in given)
    for name, value in given.items():
        dest = {"--mu": "hidden_mse_weight"}.get(name, name[2:])
        assert args[dest] == type(args[dest])(value), name


# Every option of the three training scripts with a value that is not its default; but a student is always a bert.
RUN = {
    "experiment": "other", "task": "sst2", "model": "albert", "dataset": "dev", "seed": 7, "batch_size": 4,
    "accum_step": 2, "log_step": 1, "ckpt_step": 1, "device_id": -1, "pad_to_max": True, "overwrite": True,
    "precision": "bf16", "amp": True, "compile": True, "gradient_checkpointing": True, "lazy_embedding": False,
}  # fmt: skip
STEPS = {"total_step": 2, "warmup_step": 1}
OPTIM = {"lr": 0.002, "beta1": 0.5, "beta2": 0.75, "eps": 1e-5, "weight_decay": 0.125, "max_norm": 0.25}
TEACHER = {"ptrain_ver": None, "num_class": 2, "max_seq_len": 16, "dropout": 0.25}
REF = {"teacher_exp": "teacher", "tmodel": "albert", "tckpt": 2, "tdevice_id": -1}
STUDENT = {
    "num_hidden_layers": 3, "d_model": 16, "d_ff": 8, "num_attention_heads": 4, "type_vocab_size": 3, "num_class": 2,
    "max_seq_len": 24, "dropout": 0.25, "student_init": "random",
}  # fmt: skip
DISTILL = {"softmax_temp": 3.0, "soft_weight": 0.25, "hard_weight": 0.5, "hidden_mse_weight": 7.0}
GATE = {"gate_device_id": -1, "reverse_gate": True}
GATE_OPTIM = {"lr": 0.003, "beta1": 0.25, "beta2": 0.5, "eps": 1e-4, "weight_decay": 0.25, "max_norm": 0.5}
GATE_STEPS = {"total_step": 3, "warmup_step": 0}
CACHE = {"teacher_cache": "states", "cache_budget": 0.5}
START = {"init_from": "pretrained", "init_embeddings": False, "ptrain_ver": "set in the test"}
EPOCHS = {"epoch": 1.5, "warmup_rate": 0.5}


def words(values: dict, prefix: str = "") -> list[str]:
    """Write values as a command line."""
    line = []
    for name, value in values.items():
        if isinstance(value, bool):
            line.append(f"--{prefix}{name}" if value else f"--no_{prefix}{name}")
        else:
            line += [f"--{prefix}{name}", str(value)]
    return line


@pytest.fixture
def albert_teacher(data, run, albert, monkeypatch):
    """An ALBERT teacher `teacher` with the checkpoints 2 and 4; bfloat16 is taken for available, nothing compiled."""
    monkeypatch.setattr("fine_tune.precision.has_bfloat16", lambda device: True)
    monkeypatch.setattr("torch.compile", lambda function, **_: function)  # it would take a minute
    base = ("--experiment", "teacher", "--task", "sst2", "--model", "albert", "--ptrain_ver", albert, "--device_id", -1)
    run("run_fine_tune", *base, "--max_seq_len", 24, "--total_step", 4, "--batch_size", 4, "--ckpt_step", 2)


SCRIPT_VALUES = {
    "run_fine_tune": (RUN, TEACHER, STEPS, OPTIM),
    "run_student_fine_tune": (RUN, {"model": "bert"}, REF, STUDENT, STEPS, OPTIM),
    "run_lad_distil": (RUN, {"model": "bert"}, REF, STUDENT, STEPS, OPTIM, DISTILL, GATE, CACHE),
}


@pytest.mark.parametrize("script", SCRIPT_VALUES)
def test_every_option_is_saved_with_the_run(script, data, run, albert, albert_teacher):
    values = {name: value for group in SCRIPT_VALUES[script] for name, value in group.items()}
    if script == "run_fine_tune":
        values["ptrain_ver"] = albert
        del values["gradient_checkpointing"]  # no part of transformers' ALBERT; saved, too: see the other scripts
    if script == "run_lad_distil":
        del values["pad_to_max"]  # contradicts --teacher_cache states; saved, too: see test_scripts
    gate = words(GATE_OPTIM, "gate_") + words(GATE_STEPS, "gate_") if script == "run_lad_distil" else []
    parser = importlib.import_module(script).build_parser()
    given = set(values) | {word[2:] for word in gate if word.startswith("--")}
    elsewhere = {"epoch", "warmup_rate", "num_gpu", "pad_to_max", "gradient_checkpointing"}
    assert given | elsewhere | set(START) >= set(actions(script))
    same = {name for name in values if values[name] == parser.get_default(name)}
    assert same == ({"model"} if values["model"] == "bert" else set())
    run(script, *words(values), *gate)
    model = values["model"]
    assert {k: v for k, v in data.config("other", model=model).items() if k in values} == values
    if gate:
        want = GATE_OPTIM | GATE_STEPS | {"dimension": 16, "max_seq_length": 24, "device_id": -1}
        assert data.config("other", name="gate_config.json") == want


@pytest.mark.parametrize("script", ["run_student_fine_tune", "run_lad_distil"])
def test_the_start_of_a_student_is_saved_with_the_run(script, data, run, encoder, teacher):
    values = START | {"student_init": "first", "ptrain_ver": str(encoder)}
    base = ["--experiment", "other", "--task", "sst2", "--teacher_exp", "teacher", "--device_id", -1]
    run(script, *base, "--total_step", 1, "--batch_size", 4, *words(values))
    assert {name: value for name, value in data.config("other").items() if name in values} == values


@pytest.mark.parametrize("script", SCRIPT_VALUES)
def test_epochs_are_saved_and_become_updates(script, data, run, encoder, teacher):
    base = ["--experiment", "other", "--task", "sst2", "--device_id", -1, "--batch_size", 4, *words(EPOCHS)]
    source = ["--ptrain_ver", encoder] if script == "run_fine_tune" else ["--teacher_exp", "teacher"]
    run(script, *base, *source, "--max_seq_len", 24)
    saved = data.config("other")
    assert (saved["epoch"], saved["warmup_rate"], saved["total_step"], saved["warmup_step"]) == (1.5, 0.5, 9, 4)
    assert (data.run("other") / "model-9.pt").is_file()


@pytest.mark.parametrize(("number", "device"), [(0, -1), (None, None)])
def test_the_older_flag_num_gpu_is_understood(number, device, data, run, encoder):
    base = ["--experiment", "x", "--task", "sst2", "--total_step", 1, "--ptrain_ver", encoder, "--max_seq_len", 24]
    run("run_fine_tune", *base, *(["--num_gpu", number] if number is not None else []))
    assert data.config("x").get("device_id") == device
