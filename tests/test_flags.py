"""Tests over the parsers of all scripts: one meaning per flag, none without an effect, and the documents' commands."""

import argparse
import dataclasses
import importlib
import re
import subprocess
import sys
from collections import defaultdict

import pytest
import transformers
from conftest import SIZES, make_encoder

from fine_tune.flags.shared import SIZED_GROUPS, EvalConfig, FilesConfig, OutletConfig, TeacherConfig
from fine_tune.glove.flags import AugmentConfig, CrewConfig
from fine_tune.path import PROJECT
from fine_tune.train.methods import METHODS, method_named, methods_of

SCRIPTS = sorted(file.stem for file in PROJECT.glob("*.py") if "build_parser(" in file.read_text(encoding="utf-8"))
OUTLETS = ["run_fine_tune_gen_logits", "build_logitsbank", "build_membank"]
READ = ["run_fine_tune_eval", "generate_test_prediction", *OUTLETS]
OTHERS = ["plot_CLS_embedding", "build_augmented", "import_teacher"]
TRAIN = [name for name in SCRIPTS if name.startswith(("run_", "train_")) and name not in (*READ, "run_suite")]
GROUPS = (*dict.fromkeys(group for method in METHODS.values() for group in method.groups), TeacherConfig, *SIZED_GROUPS)
"""Every group whose flags can stand in a `config.json`."""
FIELDS = {field.name for group in (*GROUPS, EvalConfig, OutletConfig) for field in dataclasses.fields(group)}

# Defaults that a script sets for itself (`set_defaults`), beside those of the fields.
OWN_DEFAULTS = {
    "run_lad_distil": {"lr": 1e-4, "gate_lr": 1e-6},
    "run_lad_distil_epoch": {"lr": 1e-4, "gate_lr": 1e-6, "hidden_mse_weight": 1.0},
    "run_lad_no_distil": {"lr": 1e-4, "gate_lr": 1e-6},
    "run_probing_lad": {"lr": 1e-4, "gate_lr": 1e-6},
    "run_alp_distil": {"lr": 1e-4},
    "run_pkd_distill": {"lr": 1e-4},
    "run_probing": {"lr": 1e-4},
    "run_kd_distil": {"lr": 1e-4},
    "run_fine_tune_distill": {"soft_weight": 1.0, "hard_weight": 1.0},
    "train_scl_from_ckpt": {"dataset": None, "seed": None},
    "train_kd_from_ckpt": {"dataset": None, "seed": None, "soft_weight": 0.5},
    "run_student_fine_tune": {"lr": 1e-4},
    "run_glove_distil": {"lr": 1e-4, "model": "densenet-cnn"},
    "generate_test_prediction": {"dataset": "test"},
    **{script: {"dataset": "train"} for script in OUTLETS},
}
# Flags whose help differs: left open, they mean something else for a teacher than for a student; `--ckpt` is the first
# checkpoint to score in one script and the one to use in the others; `--overwrite` replaces a run or a file. As in the
# MNLI document, `--softmax_temp` is the temperature of the contrast in one script, and `--soft_weight` a share in two.
HELP_DIFFERS = {"num_class", "ptrain_ver", "ckpt", "overwrite", "softmax_temp", "soft_weight"}
AUGMENTING = {field.name for group in (CrewConfig, AugmentConfig) for field in dataclasses.fields(group)}
# Flags whose choices differ: the two scripts of probes offer different experiments, as in the released project.
CHOICES_DIFFER = {"probing_exp"}
# Read by the parser itself.
OF_THE_PARSER = {"from_config"}


def actions(script: str) -> dict[str, argparse.Action]:
    """The options of a script by destination; another option for the same, `--num_gpu`, by its own name."""
    found: dict[str, argparse.Action] = {}
    for action in importlib.import_module(script).build_parser()._actions:
        if action.dest != "help" and action.option_strings:
            found[action.option_strings[0][2:] if action.dest in found else action.dest] = action
    return found


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
            choices = () if dest in CHOICES_DIFFER else tuple(action.choices or ())
            kind = (type(action).__name__, action.type, choices, action.nargs, action.required)
            seen[dest].add((*kind, "" if dest in HELP_DIFFERS else bare(action.help)))
            seen[f"{dest} spellings"].add(tuple(action.option_strings))
    assert {dest: kinds for dest, kinds in seen.items() if len(kinds) > 1} == {}


def test_a_flag_has_one_type_and_one_choice_in_training_and_reading_scripts():
    seen = defaultdict(set)
    for script in TRAIN + READ:
        for dest, action in actions(script).items():
            choices = () if dest in CHOICES_DIFFER else tuple(action.choices or ())
            seen[dest].add((type(action).__name__, action.type, choices, action.nargs))
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
    for action in actions(script).values():
        assert action.help
        dest = action.dest
        field = dest in FIELDS | OF_THE_PARSER or dest.removeprefix("gate_") in FIELDS
        field |= script == "build_augmented" and dest in AUGMENTING
        assert (field and script in (*TRAIN, *READ, *OTHERS)) or re.search(rf"\bargs\.{dest}\b|\"{dest}\"", source), (
            dest
        )


def test_every_field_is_an_option_of_some_script():
    options = {dest for script in TRAIN + READ for dest in actions(script)}
    assert options >= FIELDS


@pytest.mark.parametrize("script", [script for script in TRAIN if methods_of(script)])
def test_the_flags_of_a_row_make_its_script_train_that_method(script):
    """And the script knows no other; without any such flag it trains the default."""
    parser = importlib.import_module(script).build_parser()
    needed = {"experiment": "x", "task": "sst2", "teacher_exp": "t", "src_experiment": "s"}
    base = [word for name, value in needed.items() if name in actions(script) for word in (f"--{name}", value)]
    base += ["--seed", "1", "--dataset", "train"]  # else a continued run reads its source's
    for method in methods_of(script):
        fixed = [word for flag, value in method.fixed.items() for word in (f"--{flag}", value)]
        words = [word for word in [*base, *NEEDED.get(script, []), *fixed] if word != "true"]
        assert parser.flags(parser.parse_args(words)).method == method.name


def test_every_training_script_but_the_teachers_and_the_epochs_has_methods():
    others = {"run_fine_tune", "run_lad_distil_epoch"}
    assert {method.script for method in METHODS.values()} == set(TRAIN) - others


def test_help_of_a_switch_that_is_on_says_what_is_not_done():
    helps = {option: action.help for action in actions("run_lad_distil").values() for option in action.option_strings}
    off = {option: text for option, text in helps.items() if option.startswith("--no_")}
    assert off["--no_init_embeddings"].startswith("do not copy the embeddings at the start")
    assert {option: text for option, text in off.items() if not text.startswith("do not ")} == {}


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


# The commands of the SST-2 document of the released project, with their flags as they stand there.
DOCUMENT = {
    "teacher": ("run_fine_tune", """
        --experiment teacher_huggingface --model bert --ptrain_ver bert-base-uncased --task sst2 --dataset train
        --num_class 2 --accum_step 1 --batch_size 32 --beta1 0.9 --beta2 0.999 --ckpt_step 2105 --dropout 0.1
        --eps 1e-8 --log_step 500 --lr 2e-5 --max_norm 1.0 --max_seq_len 128 --device_id 1 --seed 42 --total_step 6315
        --warmup_step 1894 --weight_decay 0.01"""),
    "lad": ("run_lad_distil", """
        --teacher_exp teacher_huggingface --tmodel bert --tckpt 6315 --experiment LAD_soft_5_42 --model bert
        --task sst2 --accum_step 1 --batch_size 32 --beta1 0.9 --beta2 0.999 --gate_beta1 0.9 --gate_beta2 0.999
        --ckpt_step 2000 --d_ff 3072 --d_model 768 --dropout 0.1 --eps 1e-8 --log_step 100 --lr 1e-4 --gate_lr 1e-6
        --max_norm 1.0 --gate_max_norm 1.0 --num_attention_heads 12 --num_hidden_layers 6 --type_vocab_size 2
        --total_step 42100 --warmup_step 12630 --gate_total_step 42100 --gate_warmup_step 12630 --weight_decay 0.01
        --gate_weight_decay 0.01 --device_id 1 --tdevice_id 1 --gate_device_id 1 --seed 42 --softmax_temp 20
        --soft_weight 0.5 --hard_weight 0.5 --mu 1000"""),
    "lad_user_defined": ("run_probing_lad", """
        --probing_exp lad_user_defined --teacher_exp teacher_huggingface --tmodel bert --tckpt 6315
        --experiment LAD_user_defined_5 --model bert --task sst2 --accum_step 1 --batch_size 32 --beta1 0.9
        --beta2 0.999 --ckpt_step 1000 --d_ff 3072 --d_model 768 --dropout 0.1 --eps 1e-8 --log_step 100 --lr 1e-4
        --gate_lr 1e-6 --max_norm 1.0 --gate_max_norm 1.0 --num_attention_heads 12 --num_hidden_layers 6
        --type_vocab_size 2 --total_step 42100 --warmup_step 12630 --gate_total_step 42100 --gate_warmup_step 12630
        --weight_decay 0.01 --device_id 0 --tdevice_id 0 --gate_device_id 0 --gate_beta1 0.9 --gate_beta2 0.999
        --gate_eps 1e-8 --gate_weight_decay 0.01 --seed 42 --teacher_indices 12,10,8,6,4 --student_indices 6,5,4,3,2
        --softmax_temp 20 --soft_weight 0.5 --hard_weight 0.5 --mu 1000"""),
    "lad_no": ("run_lad_no_distil", """
        --teacher_exp teacher_huggingface --tmodel bert --tckpt 6315 --experiment LAD_NO_soft_1_42 --model bert
        --task sst2 --accum_step 1 --batch_size 32 --beta1 0.9 --beta2 0.999 --gate_beta1 0.9 --gate_beta2 0.999
        --ckpt_step 1000 --d_ff 3072 --d_model 768 --dropout 0.1 --eps 1e-8 --gate_eps 1e-8 --log_step 100 --lr 1e-4
        --gate_lr 1e-6 --max_norm 1.0 --gate_max_norm 1.0 --num_attention_heads 12 --num_hidden_layers 6
        --total_step 42100 --warmup_step 12630 --gate_total_step 42100 --gate_warmup_step 12630 --type_vocab_size 2
        --weight_decay 0.01 --gate_weight_decay 0.01 --device_id 0 --tdevice_id 0 --gate_device_id 0 --seed 42
        --softmax_temp 20 --soft_weight 0.5 --hard_weight 0.5 --mu 1000"""),
    "partial_lad": ("run_probing_lad", """
        --probing_exp partial_lad --teacher_exp teacher_huggingface --tmodel bert --tckpt 6315
        --experiment partial_LAD_5_42 --model bert --task sst2 --accum_step 1 --batch_size 32 --beta1 0.9
        --beta2 0.999 --ckpt_step 1000 --d_ff 3072 --d_model 768 --dropout 0.1 --eps 1e-8 --log_step 100 --lr 1e-4
        --gate_lr 1e-6 --max_norm 1.0 --gate_max_norm 1.0 --num_attention_heads 12 --num_hidden_layers 6
        --type_vocab_size 2 --total_step 42100 --warmup_step 12630 --gate_total_step 42100 --gate_warmup_step 12630
        --weight_decay 0.01 --device_id 1 --tdevice_id 1 --gate_device_id 1 --gate_beta1 0.9 --gate_beta2 0.999
        --gate_eps 1e-8 --gate_weight_decay 0.01 --seed 42 --gate_indices 2,4,6,8,10 --student_indices 1,2,3,4,5,6
        --softmax_temp 20 --soft_weight 0.5 --hard_weight 0.5 --mu 1000"""),
    "alp-kd-hidden": ("run_alp_distil", """
        --alp_exp alp-kd-hidden --teacher_exp teacher_huggingface --tmodel bert --tckpt 6315
        --experiment ALP_KD_soft_2_42 --model bert --task sst2 --accum_step 1 --batch_size 32 --beta1 0.9
        --beta2 0.999 --ckpt_step 1000 --d_ff 3072 --d_model 768 --dropout 0.1 --eps 1e-8 --log_step 100 --lr 1e-4
        --max_norm 1.0 --num_attention_heads 12 --num_hidden_layers 6 --total_step 25260 --type_vocab_size 2 --seed 42
        --warmup_step 2526 --weight_decay 0.01 --device_id 1 --tdevice_id 1 --softmax_temp 20 --mu 1000
        --soft_weight 0.5 --hard_weight 0.5"""),
    "alp-kd-hidden-v2": ("run_alp_distil", """
        --alp_exp alp-kd-hidden-v2 --teacher_exp teacher_huggingface --tmodel bert --tckpt 6315
        --experiment ALP_KD_hidden_v2_soft_1_42 --model bert --task sst2 --accum_step 1 --batch_size 32 --beta1 0.9
        --beta2 0.999 --ckpt_step 1000 --d_ff 3072 --d_model 768 --dropout 0.1 --eps 1e-8 --log_step 100 --lr 1e-4
        --max_norm 1.0 --num_attention_heads 12 --num_hidden_layers 6 --total_step 25260 --type_vocab_size 2 --seed 42
        --warmup_step 2526 --weight_decay 0.01 --device_id 1 --tdevice_id 1 --softmax_temp 20 --mu 1000
        --soft_weight 0.5 --hard_weight 0.5"""),
    "pkd": ("run_pkd_distill", """
        --teacher_exp teacher_huggingface --tmodel bert --tckpt 6315 --experiment PKD_hugface_soft_2_42 --model bert
        --task sst2 --accum_step 1 --batch_size 32 --beta1 0.9 --beta2 0.999 --ckpt_step 2000 --d_ff 3072
        --d_model 768 --dropout 0.1 --eps 1e-8 --log_step 100 --lr 1e-4 --max_norm 1.0 --num_attention_heads 12
        --num_hidden_layers 6 --total_step 25260 --type_vocab_size 2 --seed 42 --warmup_step 2526 --weight_decay 0.01
        --device_id 1 --tdevice_id 1 --softmax_temp 20 --mu 100 --soft_weight 0.5 --hard_weight 0.5"""),
    "evaluation on train": ("run_fine_tune_eval", """
        --experiment partial_LAD_0_42 --model bert --task sst2 --dataset train --batch_size 512 --device_id 2"""),
    "evaluation on dev": ("run_fine_tune_eval", """
        --experiment partial_LAD_0_42 --model bert --task sst2 --dataset dev --batch_size 512 --device_id 2"""),
    "prediction": ("generate_test_prediction", """
        --experiment LAD_soft_5_42 --model bert --task sst2 --dataset test --batch_size 256 --ckpt 28000
        --device_id 1"""),
}  # fmt: skip


def document(name: str) -> tuple[str, dict[str, str]]:
    """Script and flags of a command of the document."""
    script, flags = DOCUMENT[name]
    words = flags.split()
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert all(flag.startswith("--") for flag in given)
    return script, given


@pytest.mark.parametrize("name", DOCUMENT)
def test_the_documents_commands_parse(name):
    script, given = document(name)
    parser = importlib.import_module(script).build_parser()
    args = parser.parse_args([word for pair in given.items() for word in pair])
    flags = parser.flags(args)
    if script in TRAIN:
        assert flags.method == method_named({"teacher": "fine_tune"}.get(name, name)).name
    other = {"--mu": "hidden_mse_weight"} | ({"--teacher_indices": "gate_indices"} if "lad" in script else {})
    for flag, value in given.items():
        got = vars(args)[other.get(flag, flag[2:])]
        assert got == type(got)(value), flag


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in DOCUMENT if DOCUMENT[name][0] in TRAIN and name != "teacher"])
def test_the_documents_commands_run_at_their_depth(name, data, run, tmp_path):
    """12 teacher layers, 6 student layers, all flags of the document but sizes, places and length."""
    deep = transformers.BertConfig(**SIZES | {"num_hidden_layers": 12})
    source = ("--ptrain_ver", make_encoder(tmp_path / "deep", deep), "--max_seq_len", 24, "--total_step", 1)
    quick = {"--device_id": -1, "--batch_size": 8}
    flat = {"--experiment": "teacher_huggingface", "--task": "sst2", **quick}
    run("run_fine_tune", *source, *(word for pair in flat.items() for word in pair))
    script, given = document(name)
    quick |= {"--tckpt": 1, "--d_ff": 32, "--d_model": 16, "--num_attention_heads": 2, "--log_step": 1}
    places = {flag: -1 for flag in given if flag.endswith("device_id")}
    steps = {flag: 2 if flag.endswith("total_step") else 1 for flag in given if flag.endswith("_step")}
    run(script, *(word for pair in (given | steps | quick | places).items() for word in pair))
    maps = {
        "lad_user_defined": "4:2,6:3,8:4,10:5,12:6", "partial_lad": "2:1,4:2,6:3,8:4,10:5,12:6",
        "alp-kd-hidden": None,
    }  # fmt: skip
    saved = data.config(given["--experiment"])
    assert saved.get("layer_map") == maps.get(name, "2:1,4:2,6:3,8:4,10:5,12:6")
    assert saved["num_hidden_layers"] == 6 and (data.run(given["--experiment"]) / "model-2.pt").is_file()
    logged = data.metrics(given["--experiment"])[-1]
    gates = sorted(int(word[5:]) for word in logged if re.fullmatch(r"gate_\d+", word))
    want = {"lad": 12, "lad_user_defined": 12, "partial_lad": 10}
    assert gates == ([2, 4, 6, 8, 10, 12] if name == "lad_no" else list(range(2, want.get(name, 1) + 1)))


# Every option of the training scripts with a value that is not its default; but a student is always a bert.
RUN = {
    "experiment": "other", "task": "sst2", "model": "albert", "dataset": "dev", "seed": 7, "batch_size": 4,
    "accum_step": 2, "log_step": 1, "ckpt_step": 1, "state_step": 7, "keep_last": 2,
    "device_id": -1, "pad_to_max": True, "overwrite": True, "preflight": False,
    "precision": "bf16", "amp": True, "compile": True, "gradient_checkpointing": True, "lazy_embedding": False,
}  # fmt: skip
STEPS = {"total_step": 2, "warmup_step": 1}
OPTIM = {"lr": 0.002, "beta1": 0.5, "beta2": 0.75, "eps": 1e-5, "weight_decay": 0.125, "max_norm": 0.25}
TEACHER = {"ptrain_ver": None, "num_class": 2, "max_seq_len": 16, "dropout": 0.25}
REF = {"teacher_exp": "teacher", "tmodel": "albert", "tckpt": 2}
STUDENT = {
    "num_hidden_layers": 3, "d_model": 16, "d_ff": 8, "num_attention_heads": 4, "type_vocab_size": 3, "num_class": 2,
    "max_seq_len": 24, "dropout": 0.25, "student_init": "random",
}  # fmt: skip
LOGITS = {"softmax_temp": 3.0, "soft_weight": 0.25, "hard_weight": 0.5}
HIDDEN = LOGITS | {"hidden_mse_weight": 7.0}
MAP = {"layer_map": "4:1,3:3"}
GATE = {"gate_device_id": -1, "gate_init_bias": 1.5, "gate_norm": "token", "gate_norm_init": "teacher"}
PROBE = {"student_indices": "3,1"}
GATE_OPTIM = {"lr": 0.003, "beta1": 0.25, "beta2": 0.5, "eps": 1e-4, "weight_decay": 0.25, "max_norm": 0.5}
GATE_STEPS = {"total_step": 3, "warmup_step": 0}
CACHE = {"tdevice_id": -1, "teacher_cache": "states", "cache_budget": 0.5}
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
    monkeypatch.setattr("fine_tune.hardware.precision.has_bfloat16", lambda device: True)
    monkeypatch.setattr("torch.compile", lambda function, **_: function)  # it would take a minute
    base = ("--experiment", "teacher", "--task", "sst2", "--model", "albert", "--ptrain_ver", albert, "--device_id", -1)
    run("run_fine_tune", *base, "--max_seq_len", 24, "--total_step", 4, "--batch_size", 4, "--ckpt_step", 2)


COMMON = (RUN, {"model": "bert"}, REF, STUDENT, STEPS, OPTIM)
SCRIPT_VALUES = {
    "run_fine_tune": (RUN, TEACHER, STEPS, OPTIM),
    "run_student_fine_tune": COMMON,
    "run_lad_distil": (*COMMON, HIDDEN, MAP, GATE, {"reverse_gate": True}, CACHE),
    "run_lad_no_distil": (*COMMON, HIDDEN, MAP, GATE, CACHE),
    "run_probing_lad": (
        *COMMON, HIDDEN, GATE, CACHE, PROBE, {"probing_exp": "lad_user_defined", "gate_indices": "4,2"},
    ),
    "run_alp_distil": (*COMMON, HIDDEN, MAP, CACHE, {"alp_exp": "alp-kd-hidden-v2", "detach_target": True}),
    "run_pkd_distill": (*COMMON, HIDDEN, MAP, CACHE),
    "run_probing": (
        *COMMON, HIDDEN, CACHE, PROBE, {"probing_exp": "pkd_hidden_user_defined", "teacher_indices": "4,2"},
    ),
    "run_kd_distil": (*COMMON, LOGITS, CACHE),
}  # fmt: skip
NEEDED = {
    "run_probing_lad": ["--probing_exp", "lad_cls"],
    "run_probing": ["--probing_exp", "pkd_cls_user_defined", "--teacher_indices", "2,4"],
}
"""Flags without which a script does not run."""
BY_SCRIPT = [script if number < 2 else pytest.param(script, marks=pytest.mark.slow)
             for number, script in enumerate(SCRIPT_VALUES)]  # fmt: skip
"""All of them; the first two stand for the others in the fast set."""


@pytest.mark.slow
@pytest.mark.parametrize("script", BY_SCRIPT)
def test_every_option_is_saved_with_the_run(script, data, run, albert, albert_teacher):
    values = {name: value for group in SCRIPT_VALUES[script] for name, value in group.items()}
    if script == "run_fine_tune":
        values["ptrain_ver"] = albert
        del values["gradient_checkpointing"]  # no part of transformers' ALBERT; saved, too: see the other scripts
    if "teacher_cache" in values:
        del values["pad_to_max"]  # contradicts --teacher_cache states; saved, too: see test_scripts
    gate = words(GATE_OPTIM, "gate_") + words(GATE_STEPS, "gate_") if "gate_norm" in values else []
    parser = importlib.import_module(script).build_parser()
    given = set(values) | {word[2:] for word in gate if word.startswith("--")}
    elsewhere = {"epoch", "warmup_rate", "num_gpu", "pad_to_max", "gradient_checkpointing", "from_config"}
    elsewhere |= {"resume", "dry_run"}  # one contradicts --overwrite, the other leaves nothing
    elsewhere |= {"d_emb", "tokenizer"}  # of an ALBERT, of a student with other tokens: see test_tokens
    elsewhere |= {field.name for field in dataclasses.fields(FilesConfig)}  # of a user's own task: see test_own_data
    elsewhere |= {"pkd_exp"}  # the other two contradict --layer_map; saved, too: see test_methods
    assert given | elsewhere | set(START) >= set(actions(script))
    same = {name for name in values if values[name] == parser.get_default(name)}
    assert same == ({"model"} if values["model"] == "bert" else set())
    run(script, *words(values), *gate)
    model = values["model"]
    assert {k: v for k, v in data.config("other", model=model).items() if k in values} == values
    if gate:
        want = GATE_OPTIM | GATE_STEPS | {"dimension": 16, "max_seq_length": 24, "device_id": -1}
        assert data.config("other", name="gate_config.json") == want


@pytest.mark.parametrize("script", BY_SCRIPT[1:])
def test_the_start_of_a_student_is_saved_with_the_run(script, data, run, encoder, teacher):
    values = START | {"student_init": "first", "ptrain_ver": str(encoder)}
    base = ["--experiment", "other", "--task", "sst2", "--teacher_exp", "teacher", "--device_id", -1]
    run(script, *base, "--total_step", 1, "--batch_size", 4, *words(values), *NEEDED.get(script, []))
    assert {name: value for name, value in data.config("other").items() if name in values} == values


@pytest.mark.slow
@pytest.mark.parametrize("script", BY_SCRIPT)
def test_epochs_are_saved_and_become_updates(script, data, run, encoder, teacher):
    base = ["--experiment", "other", "--task", "sst2", "--device_id", -1, "--batch_size", 4, *words(EPOCHS)]
    source = ["--ptrain_ver", encoder] if script == "run_fine_tune" else ["--teacher_exp", "teacher"]
    run(script, *base, *source, "--max_seq_len", 24, *NEEDED.get(script, []))
    saved = data.config("other")
    assert (saved["epoch"], saved["warmup_rate"], saved["total_step"], saved["warmup_step"]) == (1.5, 0.5, 9, 4)
    assert (data.run("other") / "model-9.pt").is_file()


@pytest.mark.parametrize(("number", "device"), [(0, -1), (None, None)])
def test_the_older_flag_num_gpu_is_understood(number, device, data, run, encoder):
    base = ["--experiment", "x", "--task", "sst2", "--total_step", 1, "--ptrain_ver", encoder, "--max_seq_len", 24]
    run("run_fine_tune", *base, *(["--num_gpu", number] if number is not None else []))
    assert data.config("x").get("device_id") == device


def test_the_older_flag_num_gpu_is_zero_or_one(refused):
    parse = importlib.import_module("run_fine_tune").build_parser().parse_args
    base = ["--experiment", "x", "--task", "sst2", "--num_gpu"]
    assert [parse([*base, number]).device_id for number in ("0", "1")] == [-1, 0]
    told = refused("run_fine_tune", *base, "2")
    assert told == "argument --num_gpu: must be 0 or 1, got '2'; --device_id takes the number of a GPU"
