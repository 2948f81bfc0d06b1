"""The flags of a run that is to be repeated (`--from_config`)."""

from pathlib import Path
from typing import Any

from fine_tune.path import read_json

NO_FLAGS = {"method", "layer_map", "gate_dimension", "gate_max_seq_length"}
"""What the configuration of a run holds beside flags; `layer_map` is one in some scripts."""
STEPS = {"total_step", "warmup_step", "gate_total_step", "gate_warmup_step"}
FOLLOWS = {
    **dict.fromkeys(("--epoch", "--num_train_epochs"), STEPS),
    **dict.fromkeys(("--total_step", "--max_steps"), STEPS | {"epoch"}),
    "--warmup_rate": {"warmup_step", "gate_warmup_step"},
    **dict.fromkeys(("--num_hidden_layers", "--pkd_exp", "--alp_exp"), {"layer_map"}),
    "--warmup_step": {"gate_warmup_step"},
    "--precision": {"amp"},
    "--amp": {"precision"},
    "--num_gpu": {"device_id"},
}
"""Values of a saved run that follow from a flag."""
OF_EPOCHS = {"--batch_size", "--per_device_train_batch_size", "--dataset"}
"""Flags from which the number of updates follows where a run is counted in epochs."""
FIXED = {"--task", "--task_name", "--teacher_exp", "--tmodel", "--tckpt"}
"""Flags from which too much follows: sizes, classes, length."""


def saved_flags(file: Path, script: str, known: set[str], given: set[str]) -> dict[str, Any]:
    """Read a run's `config.json`, and the `gate_config.json` beside it.

    Args:
        file: The `config.json`.
        script: Name of the script that is to repeat the run.
        known: What the script's flags are called in its code.
        given: Flags on the command line, such as `--epoch`: what followed from their saved values is left out.

    Raises:
        ValueError: The file is no configuration of this script's.
        OSError: It cannot be read.
    """
    values, beside, made = read_json(file), file.with_name("gate_config.json"), file.with_name("run.json")
    gates = read_json(beside) if beside.is_file() else {}
    values |= {f"gate_{name}": value for name, value in gates.items() if name != "device_id"}
    maker = Path((read_json(made).get("argv") or [script])[0]).name if made.is_file() else script
    if maker != script:
        raise ValueError(f"--from_config {file}: a run of {maker}; repeat it with that script")
    if foreign := sorted(set(values) - known - NO_FLAGS):
        raise ValueError(f"--from_config {file}: {', '.join(foreign)}: no flags of this script; is it of another?")
    if other := sorted(FIXED & given):
        raise ValueError(f"{other[0]}: --from_config keeps task and teacher of the run; for others give all flags")
    stale = {"experiment", "overwrite", "resume", "dry_run", "preflight"}
    stale |= STEPS if "epoch" in values and OF_EPOCHS & given else set()
    stale = stale.union(*(names for flag, names in FOLLOWS.items() if flag in given))
    return {name: value for name, value in values.items() if name in known and name not in stale}
