"""Tests of the flag groups: ranges, other spellings, and the way through config.json and back."""

import argparse
import dataclasses
import itertools
import json

import pytest

import run_fine_tune
from fine_tune.flags import shared
from fine_tune.flags.option import Checked, flag
from fine_tune.flags.parser import Flags, Parser, add_flags, from_args, usage_errors
from fine_tune.flags.saved import load_config, save_config
from fine_tune.flags.shared import (
    EpochConfig,
    EvalConfig,
    InitConfig,
    OptimConfig,
    OutletConfig,
    OutputsConfig,
    Pace,
    PrecisionConfig,
    RunConfig,
    SizesConfig,
    SourceConfig,
    StepConfig,
    StudentConfig,
    TeacherConfig,
    TeacherPlace,
    TeacherRef,
)
from fine_tune.train import methods
from fine_tune.train.methods import (
    METHODS,
    ContinuedKdConfig,
    ContrastConfig,
    GateConfig,
    HiddenConfig,
    LadProbeConfig,
    LayerContrastConfig,
    LogitConfig,
    LogitMseConfig,
    MatchConfig,
    PkdProbeConfig,
    SclConfig,
)

ALL = tuple(dict.fromkeys(group for method in METHODS.values() for group in method.groups)) + (
    *(TeacherConfig, EvalConfig, OutletConfig),
)
NEEDED = {
    "experiment": "x", "task": "sst2", "teacher_exp": "t", "teacher_indices": "2,4", "init_exp": "t",
    "src_experiment": "t", "use_hidden_loss": True, "use_classify_loss": True,
}  # fmt: skip
PROBES = {LadProbeConfig: {"probing_exp": "lad_cls"}, PkdProbeConfig: {"probing_exp": "pkd_cls_user_defined"}}


def make(group, **values):
    """Build a group with what it needs."""
    names = {field.name for field in dataclasses.fields(group)}
    needed = {name: value for name, value in NEEDED.items() if name in names} | PROBES.get(group, {})
    return group(**needed | values)


def parsed(group, *argv, prefix=""):
    """Parse a command line of one group."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_flags(parser, group, prefix=prefix)
    return from_args(group, parser.parse_args([str(word) for word in argv]), prefix)


CONTRASTS = (ContrastConfig, LayerContrastConfig)
BAD = [
    (RunConfig, "split", (0.0, 1.0)), (RunConfig, "split_seed", (-1, 2**63)),
    (RunConfig, "seed", (-1,)), (RunConfig, "batch_size", (0, -8)), (RunConfig, "accum_step", (0, -1)),
    (Pace, "log_step", (0,)), (Pace, "ckpt_step", (0,)), (Pace, "state_step", (0,)), (Pace, "keep_last", (0,)),
    (RunConfig, "device_id", (-2,)),
    (StepConfig, "total_step", (0, -1)), (StepConfig, "warmup_step", (-1,)), (EpochConfig, "epoch", (0.0, -1.0)),
    (EpochConfig, "warmup_rate", (-0.1, 1.0)), (TeacherConfig, "num_class", (0,)), (TeacherConfig, "max_seq_len", (0,)),
    (TeacherConfig, "dropout", (-0.1, 1.0)), (TeacherRef, "tckpt", (-1,)), (OutputsConfig, "tdevice_id", (-2,)),
    (StudentConfig, "num_hidden_layers", (0,)), (StudentConfig, "d_model", (0,)), (StudentConfig, "d_ff", (0,)),
    (StudentConfig, "num_attention_heads", (0,)), (StudentConfig, "type_vocab_size", (0,)),
    (StudentConfig, "num_class", (0,)), (StudentConfig, "max_seq_len", (0,)), (StudentConfig, "dropout", (-0.1, 1.0)),
    (OptimConfig, "lr", (0.0, -1.0)), (OptimConfig, "beta1", (-0.1, 1.0)), (OptimConfig, "beta2", (-0.1, 1.0)),
    (OptimConfig, "eps", (0.0,)), (OptimConfig, "weight_decay", (-0.1,)), (OptimConfig, "max_norm", (0.0,)),
    (GateConfig, "gate_device_id", (-2,)), (LogitConfig, "softmax_temp", (0.0, -1.0)),
    (LogitConfig, "soft_weight", (-0.1,)), (LogitConfig, "hard_weight", (-0.1,)),
    (HiddenConfig, "softmax_temp", (0.0, -1.0)), (HiddenConfig, "soft_weight", (-0.1,)),
    (HiddenConfig, "hard_weight", (-0.1,)), (HiddenConfig, "hidden_mse_weight", (-1.0,)),
    (OutputsConfig, "cache_budget", (0.0, -1.0)), (EvalConfig, "batch_size", (0,)), (EvalConfig, "device_id", (-2,)),
    (OutletConfig, "ckpt", (-1,)), (InitConfig, "init_ckpt", (-1,)),
    *((InitConfig, f"init_{name}", (0, -1)) for name in ("start", "end", "step")),
    *((SizesConfig, name, (0, -1)) for name in ("num_hidden_layers", "d_model", "d_ff", "d_emb", "type_vocab_size")),
    *((SizesConfig, name, (0, -1)) for name in ("num_attention_heads", "num_class")),
    (SizesConfig, "max_seq_len", (0,)), (SizesConfig, "dropout", (-0.1, 1.5)), (StudentConfig, "d_emb", (0, -1)),
    (TeacherPlace, "tdevice_id", (-2,)), (SourceConfig, "src_ckpt", (-1,)), (SourceConfig, "dropout", (-0.1, 1.0)),
    (MatchConfig, "cls_steps", (-1,)), (MatchConfig, "mu", (-1.0,)), (MatchConfig, "soft_weight", (-0.1, 1.1)),
    (MatchConfig, "ce_weight", (-0.1, 1.1)), (MatchConfig, "softmax_temp", (0.0,)), (MatchConfig, "scl_temp", (0.0,)),
    *((group, "neg_num", (0, -1)) for group in CONTRASTS), *((group, "contrast_steps", (-1,)) for group in CONTRASTS),
    *((group, "softmax_temp", (0.0, -1.0)) for group in CONTRASTS),
    (ContrastConfig, "logit_loss_weight", (-0.1, 1.1)), (ContrastConfig, "membank_device", (-2,)),
    (LayerContrastConfig, "contrast_temp", (0.0,)), (LayerContrastConfig, "contrast_weight", (-1.0,)),
    (LayerContrastConfig, "soft_label_weight", (-0.1, 1.1)), (SclConfig, "scl_temp", (0.0,)),
    (LogitMseConfig, "mse_weight", (-0.1,)), (LogitMseConfig, "hard_weight", (-0.1,)),
    (ContinuedKdConfig, "softmax_temp", (0.0,)), (ContinuedKdConfig, "soft_weight", (-0.1, 1.1)),
]  # fmt: skip
UNBOUNDED = {(GateConfig, "gate_init_bias")}  # a gate may start as open or as shut as one likes


@pytest.mark.parametrize(("group", "name", "values"), BAD)
def test_a_value_out_of_range_is_refused_by_flag_and_value(group, name, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"^--{name} must be .*, got {value}$"):
            make(group, **{name: value})


def test_every_number_has_a_range():
    """Every int or float field of every group is in the table above."""
    numbers = {
        (group, field.name)
        for group in ALL
        for field in dataclasses.fields(group)
        if field.type in (int, float, int | None, float | None)
    }
    assert numbers - UNBOUNDED == {(group, name) for group, name, _ in BAD}


@pytest.mark.parametrize("group", ALL)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_are_finite(group, value):
    for field in dataclasses.fields(group):
        if field.type in (float, float | None):
            with pytest.raises(ValueError, match=f"--{field.name} must be a finite number, got"):
                make(group, **{field.name: value})


@pytest.mark.parametrize("group", ALL)
def test_only_the_choices_are_accepted(group):
    for field in dataclasses.fields(group):
        for choice in field.metadata["choices"]:
            assert getattr(make(group, **{field.name: choice}), field.name) == choice
        if field.metadata["choices"]:
            with pytest.raises(ValueError, match=rf"--{field.name} must be one of .*, got 'other'"):
                make(group, **{field.name: "other"})


@pytest.mark.parametrize("group", ALL)
def test_defaults_pass_their_own_checks(group):
    assert dataclasses.asdict(make(group))


@pytest.mark.parametrize(
    ("group", "alias", "name", "value"),
    [
        (RunConfig, "task_name", "task", "sst2"), (RunConfig, "per_device_train_batch_size", "batch_size", 8),
        (OptimConfig, "learning_rate", "lr", 0.5), (TeacherConfig, "max_seq_length", "max_seq_len", 16),
        (StudentConfig, "max_seq_length", "max_seq_len", 16), (StepConfig, "max_steps", "total_step", 7),
        (EpochConfig, "num_train_epochs", "epoch", 2.5), (TeacherConfig, "model_name_or_path", "ptrain_ver", "a/b"),
        (StudentConfig, "model_name_or_path", "ptrain_ver", "a/b"), (HiddenConfig, "mu", "hidden_mse_weight", 7.5),
        (EvalConfig, "task_name", "task", "sst2"), (LadProbeConfig, "teacher_indices", "gate_indices", "12,10"),
    ],
)  # fmt: skip
def test_other_spellings_mean_the_same(group, alias, name, value):
    given = NEEDED | PROBES.get(group, {})
    fields = [field for field in dataclasses.fields(group) if field.name in given and field.name != name]
    needed = [word for field in fields for word in (f"--{field.name}", given[field.name])]
    one = parsed(group, *needed, f"--{alias}", value)
    assert one == parsed(group, *needed, f"--{name}", value)
    assert getattr(one, name) == value


def test_embeddings_are_copied_unless_told_otherwise():
    assert parsed(StudentConfig).init_embeddings is True
    assert parsed(StudentConfig, "--no_init_embeddings").init_embeddings is False


def test_a_prefix_makes_flags_of_its_own():
    settings = parsed(OptimConfig, "--gate_lr", 0.5, "--gate_beta1", 0.25, prefix="gate_")
    assert (settings.lr, settings.beta1, settings.beta2) == (0.5, 0.25, 0.999)
    with pytest.raises(ValueError, match=r"^--gate_max_norm must be > 0, got -1.0$"):
        parsed(OptimConfig, "--gate_max_norm", -1, prefix="gate_")


def test_a_declared_flag_has_its_type_and_its_default():
    @dataclasses.dataclass
    class Group:
        """A title."""

        count: int | None = flag("a count", None)
        rate: float = flag("100 % of it", 0.5)
        fast: bool = flag("quick", False)

    assert parsed(Group) == Group(count=None, rate=0.5, fast=False)
    assert parsed(Group, "--count", "3", "--rate", "1", "--fast") == Group(count=3, rate=1.0, fast=True)


def test_usage_errors_turn_what_the_user_can_mend_into_exit_code_2(capsys):
    for error in (ValueError("--lr is bad"), FileNotFoundError("no file")):
        with pytest.raises(SystemExit) as end, usage_errors(argparse.ArgumentParser()):
            raise error
        assert end.value.code == 2 and capsys.readouterr().err.endswith(f"error: {error}\n")
    with pytest.raises(RuntimeError), usage_errors(argparse.ArgumentParser()):
        raise RuntimeError("ours")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", ".hidden", "-x", "a b", "x\n", "/abs", "ü"])
@pytest.mark.parametrize("group", [RunConfig, EvalConfig])
def test_a_name_that_could_leave_the_experiment_folder_is_refused(group, name):
    with pytest.raises(ValueError, match="--experiment may hold letters, digits"):
        make(group, experiment=name)


@pytest.mark.parametrize("name", ["LAD_soft_5_42", "a.b+c=1-2", "7"])
def test_the_names_of_the_documents_are_accepted(name):
    assert make(RunConfig, experiment=name).experiment == name


def test_tasks_are_known_by_glues_own_names_too():
    assert make(RunConfig, task="STS-B").task == "stsb"
    with pytest.raises(ValueError, match=r"--task must be one of sst2, .*, got 'wnli'"):
        make(RunConfig, task="wnli")


def test_micro_batches_divide_the_batch():
    assert make(RunConfig, batch_size=32, accum_step=8).accum_step == 8
    with pytest.raises(ValueError, match="--batch_size 32 is not a multiple of --accum_step 3"):
        make(RunConfig, batch_size=32, accum_step=3)


def test_every_group_is_taken_by_a_script():
    modules = (shared, methods)
    declared = {thing for module in modules for thing in vars(module).values() if isinstance(thing, type)}
    assert {group for group in declared if issubclass(group, Checked)} - {
        Checked,
        shared.FilesConfig,
        shared.ImportConfig,  # of a script that trains nothing
        methods.NegativesConfig,
        methods.ShareConfig,
    } == set(ALL)


def test_no_name_stands_in_two_groups_that_a_run_merges():
    merged = {method.script: method.groups for method in METHODS.values()} | {"run_fine_tune": run_fine_tune.GROUPS}
    merged |= {"banks": (EvalConfig, PrecisionConfig, OutletConfig)}
    assert len(merged) >= 11
    assert {group for groups in merged.values() for group in groups} == set(ALL)
    for script, groups in merged.items():
        names = [{field.name for field in dataclasses.fields(group)} for group in groups]
        assert not any(one & other for one, other in itertools.combinations(names, 2)), script


def flags(*groups, **values) -> Flags:
    """Groups of their defaults, but for some values."""
    names = {group: {field.name for field in dataclasses.fields(group)} for group in groups}
    return Flags(
        {group: make(group, **{name: values[name] for name in names[group] & set(values)}) for group in groups}
    )


def parsed_flags(*argv, groups=(OptimConfig, StepConfig), **options) -> Flags:
    """Flags from a command, with a part `gate_` of its own optimiser and duration."""
    parts = {"gate_": {OptimConfig: "Optimiser", StepConfig: "Schedule"}}
    parser = Parser("A script.", groups, parts, **options)
    return parser.flags(parser.parse_args([str(word) for word in argv]))


def test_flags_are_found_by_their_group():
    found = flags(RunConfig, OptimConfig, seed=7, lr=0.5)
    assert found[RunConfig] == make(RunConfig, seed=7) and found[OptimConfig] == OptimConfig(lr=0.5)
    assert found.get(OptimConfig) is found[OptimConfig] and found.get(GateConfig) is None
    assert found.values() == dataclasses.asdict(found[RunConfig]) | dataclasses.asdict(found[OptimConfig])


def test_a_command_becomes_flags_with_its_words_and_the_name_of_its_method():
    found = parsed_flags("--lr", 0.5, "--total_step", 9, name_method=lambda values: f"of {values['total_step']}")
    assert (found[OptimConfig], found[StepConfig]) == (OptimConfig(lr=0.5), StepConfig(total_step=9))
    assert found.command[1:] == ("--lr", "0.5", "--total_step", "9") and found.method == "of 9"


@pytest.mark.parametrize("group", ALL)
def test_no_group_changes(group):
    made = make(group)
    for field in dataclasses.fields(group):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field.name, getattr(made, field.name))


def test_settled_flags_are_a_copy():
    """Of everything but the groups, and the groups of parts, that are given."""
    found = parsed_flags("--lr", 0.5, "--gate_lr", 0.25, name_method=lambda _: "m")
    gates = found.parts["gate_"].replaced(StepConfig(total_step=8))
    settled = found.replaced(StepConfig(total_step=9), gate_=gates)
    assert settled.values() == found.values() | {"total_step": 9} and found[StepConfig].total_step is None
    assert (settled.command, settled.method) == (found.command, "m")
    assert (settled.parts["gate_"][StepConfig].total_step, settled.parts["gate_"][OptimConfig].lr) == (8, 0.25)
    assert found.parts["gate_"][StepConfig].total_step is None


def test_values_put_the_earlier_group_first():
    one, other = StudentConfig(dropout=0.25), TeacherConfig(dropout=0.5)
    for first, second in ((one, other), (other, one)):
        found = Flags({type(first): first, type(second): second})
        assert found.values()["dropout"] == first.dropout


def test_flags_with_a_prefix_are_read_and_refused_under_it():
    found = parsed_flags("--gate_lr", 0.5)
    assert found.parts["gate_"][OptimConfig].lr == 0.5 and found[OptimConfig].lr == OptimConfig().lr
    with pytest.raises(ValueError, match=r"^--gate_lr must be > 0, got -1.0$"):
        parsed_flags("--gate_lr", -1.0)


def test_a_configuration_read_back_is_the_one_saved(tmp_path):
    groups = (RunConfig, TeacherConfig, OptimConfig, PrecisionConfig)
    values = flags(*groups, seed=7, num_class=2, dropout=0.25, lr=1e-5, amp=True).values() | {"method": "fine_tune"}
    save_config(tmp_path / "config.json", values)
    assert load_config(tmp_path) == {name: value for name, value in values.items() if value is not None}
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    assert list(json.loads(text)) == sorted(json.loads(text)) and text.startswith('{\n  "accum_step"')


def saved(folder, **changes):
    """Write a minimal config.json; a change to None removes the key."""
    values = {"experiment": "x", "model": "bert", "task": "sst2", "num_class": 2, "max_seq_len": 8, "dropout": 0.1}
    values = {name: value for name, value in (values | changes).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")


def test_unknown_and_missing_keys_are_named(tmp_path):
    """Unknown ones only in the released format, which is frozen: our own of a newer version stay readable."""
    saved(tmp_path, zeta=1, alpha=2)
    with pytest.raises(ValueError, match=r"config.json: unknown keys: alpha, zeta"):
        load_config(tmp_path)
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    assert {name: load_config(tmp_path)[name] for name in ("zeta", "alpha")} == {"zeta": 1, "alpha": 2}
    saved(tmp_path, task=None, dropout=None)
    with pytest.raises(ValueError, match=r"config.json: missing keys: dropout, task"):
        load_config(tmp_path)


@pytest.mark.parametrize(("text", "reason"), [("{", "not a JSON file"), ("[1]", "expected one JSON object, got list")])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, reason):
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"config.json: {reason}"):
        load_config(tmp_path)


def test_a_missing_run_is_answered_with_the_runs_of_its_task(tmp_path):
    for name in ("other_bert_sst2", "more_albert_sst2", "third_bert_rte", ".hidden_bert_sst2"):
        (tmp_path / name).mkdir()
        saved(tmp_path / name)
    with pytest.raises(
        FileNotFoundError,
        match=r"^--experiment: no run at .*/absent_bert_sst2; runs of sst2: more_albert_sst2, other_bert_sst2$",
    ):
        load_config(tmp_path / "absent_bert_sst2")
    with pytest.raises(FileNotFoundError, match=r"^--teacher_exp: no run at .*/absent_bert_cola; runs of cola: none$"):
        load_config(tmp_path / "absent_bert_cola", "--teacher_exp")
