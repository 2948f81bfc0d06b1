"""The flags of a run that is to be repeated (`--from_config`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fine_tune.files import read_json

NO_FLAGS = {"method", "layer_map", "num_class", "max_seq_len", "dropout"}
"""What every `config.json` may hold, whether the script has such flags or not."""
OF_THE_NEW_RUN = {"experiment", "overwrite", "resume", "dry_run", "preflight"}
"""Flags that are never repeated."""
OF_EPOCHS = {"batch_size", "dataset"}
"""Flags from which the number of updates follows where a run is counted in epochs."""
FIXED = {"task", "teacher_exp", "tmodel", "tckpt"}
"""Flags from which too much follows: sizes, classes, length."""


def saved_flags(
    file: Path, script: str, known: set[str], given: set[str], decides: Mapping[str, set[str]]
) -> dict[str, Any]:
    """Read a run's `config.json`, and the configurations of its parts beside it (`PART_config.json`).

    Args:
        file: The `config.json`.
        script: Name of the script that is to repeat the run.
        known: The script's flags, by their names in the code.
        given: Those that are on the command line: what followed from their saved values is left out.
        decides: The values that follow from each flag.

    Raises:
        ValueError: The file is no configuration of this script's.
        OSError: It cannot be read.
    """
    values, made = read_json(file), file.with_name("run.json")
    maker = Path((read_json(made).get("argv") or [script])[0]).name if made.is_file() else script
    if maker != script:
        raise ValueError(f"--from_config {file}: a run of {maker}; repeat it with that script")
    if foreign := sorted(set(values) - known - NO_FLAGS):
        raise ValueError(f"--from_config {file}: {', '.join(foreign)}: no flags of this script; is it of another?")
    for beside in file.parent.glob("*_config.json"):
        prefix = beside.name.removesuffix("config.json")
        values |= {prefix + name: value for name, value in read_json(beside).items() if name != "device_id"}
    if other := sorted(FIXED & given):
        raise ValueError(f"--{other[0]}: --from_config keeps task and teacher of the run; for others give all flags")
    stale = OF_THE_NEW_RUN | set[str]().union(*(decides.get(name, set()) for name in given))
    if "epoch" in values and OF_EPOCHS & given:
        stale |= decides["epoch"]
    return {name: value for name, value in values.items() if name in known and name not in stale}
