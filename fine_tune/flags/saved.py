"""The configuration of a run as a file: `config.json`, flat, sorted, one key per flag, and `method`.

Our own runs are read whatever keys they hold, so one of a newer version stays readable; the format of the released
code is frozen, and a key that it does not have is refused.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from fine_tune.files import read_json, write_text
from fine_tune.flags.shared import STUDENT_GROUPS, OutputsConfig, TeacherConfig
from fine_tune.path import task_of

RELEASED_KEYS = {
    *(field.name for group in (*STUDENT_GROUPS, TeacherConfig, OutputsConfig) for field in dataclasses.fields(group)),
    *("softmax_temp", "soft_weight", "hard_weight", "hidden_mse_weight", "layer_map", "method"),
    *("num_gpu", "d_emb"),  # not read: an older spelling of device_id, and a size that never reached a model
}
"""What the configuration of a released run may hold; such a run has neither `run.json` nor `encoder.json`."""
NEEDED = {"experiment", "model", "task", "num_class", "max_seq_len", "dropout"}


def save_config(file: Path, values: dict[str, Any]) -> None:
    """Write a flat configuration: sorted, indented, without what was left open."""
    written = {name: value for name, value in values.items() if value is not None}
    write_text(file, json.dumps(written, indent=2, sort_keys=True) + "\n")


NEUTRAL = {"overwrite", "preflight", "dry_run", "resume", "state_step", "teacher_cache", "cache_budget"}
"""Values without a bearing on what a run trains; devices (`is_neutral`) have none either."""
FREE = {"keep_last", "ptrain_ver", "train", "dev", "test", "train_file", "validation_file", "test_file"}
"""Further values that may change when a run continues: an encoder and rows may have moved, their tokens are compared.

Not `ckpt_step`: rows that wait for updates (`run.lazy_adamw`) get them at a checkpoint, which changes rounding.
"""
OLDER_METHODS = {"lad_reverse": "lad"}
"""What older versions called a method in a configuration."""


def is_neutral(name: str) -> bool:
    """Whether a value has no bearing on what a run trains."""
    return name in NEUTRAL or name.endswith(("device_id", "_device"))


def check_same(file: Path, values: dict[str, Any]) -> None:
    """Refuse to continue a run that was started with other values than these.

    Raises:
        ValueError: The first that differs.
    """
    saved = read_json(file)
    for name, value in sorted(values.items()):
        if is_neutral(name) or name in FREE or (name == "method" and OLDER_METHODS.get(value) == saved.get(name)):
            continue
        if saved.get(name) != value:
            was, now = ("left open" if each is None else each for each in (saved.get(name), value))
            raise ValueError(
                f"--resume: {file} has {name} {was}, now it is {now}; give what the run began with, or --overwrite"
            )


def load_config(run_dir: Path, flag: str = "--experiment") -> dict[str, Any]:
    """Read `config.json` of our own or of a released run.

    Raises:
        FileNotFoundError: There is no such run.
        ValueError: The file is no configuration, or holds an unknown key or lacks a needed one.
    """
    file = run_dir / "config.json"
    if not file.is_file():
        task = task_of(run_dir)
        there = sorted(path.parent.name for path in run_dir.parent.glob(f"[!.]*_{task}/config.json"))
        raise FileNotFoundError(f"{flag}: no run at {run_dir}; runs of {task}: {', '.join(there) or 'none'}")
    values = read_json(file)
    if "transformers_version" in values and "task" not in values:
        kind = ", ".join(map(str, values.get("architectures") or ["model"]))
        raise ValueError(
            f"{flag}: {run_dir} is a HuggingFace folder ({kind}), not a run of this project; run_fine_tune.py with "
            f"--ptrain_ver {run_dir} fine-tunes its encoder into one, under another --experiment"
        )
    ours = any((run_dir / name).is_file() for name in ("run.json", "encoder.json"))
    if not ours and (unknown := sorted(set(values) - RELEASED_KEYS)):
        raise ValueError(f"{file}: unknown keys: {', '.join(unknown)}")
    if missing := sorted(NEEDED - set(values)):
        raise ValueError(f"{file}: missing keys: {', '.join(missing)}")
    for key in ("num_class", "max_seq_len"):
        if not isinstance(values[key], int) or values[key] < 1:
            raise ValueError(f"{file}: {key} must be a positive number, got {values[key]!r}")
    if not isinstance(values["dropout"], int | float) or not 0 <= values["dropout"] < 1:
        raise ValueError(f"{file}: dropout must be in [0, 1), got {values['dropout']!r}")
    return values
