"""The configuration of a run as a file: `config.json`, flat, sorted, one key per flag, and `method`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from fine_tune.flags.shared import STUDENT_GROUPS, OutputsConfig, TeacherConfig
from fine_tune.path import read_json, write_text
from fine_tune.train.methods import (
    AlpConfig,
    ChainConfig,
    GateFlags,
    HiddenConfig,
    LadProbeConfig,
    LogitConfig,
    MapConfig,
    PkdConfig,
    PkdProbeConfig,
)

GROUPS = (
    *(*STUDENT_GROUPS, TeacherConfig, OutputsConfig, LogitConfig, HiddenConfig, MapConfig, GateFlags, ChainConfig),
    *(PkdConfig, AlpConfig, LadProbeConfig, PkdProbeConfig),
)
"""Every group whose flags can stand in a `config.json`."""

LEGACY_KEYS = {"num_gpu", "d_emb"}
"""Keys of released runs that are not read: an older spelling of `device_id`, and a size that never reached a model."""


def save_config(file: Path, values: dict[str, Any]) -> None:
    """Write a flat configuration: sorted, indented, without what was left open."""
    written = {name: value for name, value in values.items() if value is not None}
    write_text(file, json.dumps(written, indent=2, sort_keys=True) + "\n")


NEUTRAL = {
    *("overwrite", "preflight", "dry_run", "resume", "state_step", "teacher_cache", "cache_budget"),
    *("device_id", "tdevice_id", "gate_device_id"),
}
"""Values without a bearing on what a run trains."""
FREE = NEUTRAL | {"keep_last"}
"""Values that may change when a run goes on; not `ckpt_step`, as reading waiting rows (`lazy`) changes rounding."""


def check_same(file: Path, values: dict[str, Any]) -> None:
    """Refuse to go on with a run that was begun with other values than these.

    Raises:
        ValueError: The first that differs.
    """
    saved = read_json(file)
    for name, value in sorted(values.items()):
        if name not in FREE and saved.get(name) != value:
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
        there = sorted(path.parent.name for path in run_dir.parent.glob("[!.]*/config.json"))
        raise FileNotFoundError(f"{flag}: no run at {run_dir}; runs there: {', '.join(there) or 'none'}")
    values = read_json(file)
    known = {field.name for group in GROUPS for field in dataclasses.fields(group)}
    unknown = sorted(set(values) - known - LEGACY_KEYS - {"method"})
    if unknown:
        raise ValueError(f"{file}: unknown keys: {', '.join(unknown)}")
    missing = sorted({"experiment", "model", "task", "num_class", "max_seq_len", "dropout"} - set(values))
    if missing:
        raise ValueError(f"{file}: missing keys: {', '.join(missing)}")
    for key in {"num_class", "max_seq_len"}:
        if not isinstance(values[key], int) or values[key] < 1:
            raise ValueError(f"{file}: {key} must be a positive number, got {values[key]!r}")
    if not isinstance(values["dropout"], int | float) or not 0 <= values["dropout"] < 1:
        raise ValueError(f"{file}: dropout must be in [0, 1), got {values['dropout']!r}")
    return values
