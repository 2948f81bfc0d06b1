#!/usr/bin/env python3
"""What the checks before a run, its states and its checkpoints, and resuming it cost.

    python benchmarks/bench_safety.py --encoder FOLDER

`run_lad_distil.py` on SST-2: `--steps` updates with a state every tenth and a checkpoint every twentieth, stopped, then
`--resume`. Times are of the calls themselves, in this process; the teacher is a fresh one, whose judgement the run here
does not heed. The last line is JSON.
"""

import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import run_lad_distil
from benchmarks.common import UNDISTURBED, command_line, make_teacher, own_data_dir, ticking
from fine_tune.data.tokens import load_split, load_tokenizer
from fine_tune.path import data_dir
from fine_tune.run import preflight, session
from fine_tune.run.state import STATE, Snapshot
from fine_tune.tasks.table import TASKS

CHECKS = ("check_schedule", "check_rows", "check_teacher", "check_size", "check_disk")


@contextlib.contextmanager
def timing(times: dict[str, list[float]], *calls: tuple[Any, str]) -> Iterator[None]:
    """Note the seconds that functions, given by where they are and their names, take."""

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*given, **named)
            except ValueError:
                if name != "check_teacher":
                    raise
            finally:
                times.setdefault(name, []).append(time.perf_counter() - start)

        return run

    with contextlib.ExitStack() as stack:
        for where, name in calls:
            stack.enter_context(mock.patch.object(where, name, timed(name, getattr(where, name))))
        yield


def main() -> None:
    """Run, resume, print."""
    parser = command_line(__doc__, "batch_size", "max_seq_len")
    parser.add_argument("--steps", type=int, default=60, help="updates before the run is stopped (default: 60)")
    args = parser.parse_args()
    clock: list[float] = []

    def tick() -> bool:
        clock.append(time.perf_counter())
        return len(clock) > args.steps

    times: dict[str, list[float]] = {}
    shared = ["--task", "sst2", "--batch_size", str(args.batch_size), "--device_id", "-1"]
    with own_data_dir():
        make_teacher(args, *shared, *UNDISTURBED)
        for split in ("train", "dev"):  # the rows' cache is no cost of safety
            load_split(TASKS["sst2"], split, load_tokenizer(args.encoder), args.max_seq_len)
        ours = ["--experiment", "ours", "--teacher_exp", "teacher", "--total_step", "1000", *shared]
        ours += ["--state_step", "10", "--ckpt_step", "20"]
        calls = [(preflight, name) for name in CHECKS]
        calls += [(Snapshot, "save"), (session, "save_checkpoint"), (Snapshot, "load"), (session.Session, "restore")]
        with timing(times, *calls), ticking(tick):
            run_lad_distil.main(ours)
        updates = [after - before for before, after in zip(clock, clock[1:], strict=False)]
        size = (data_dir() / "fine_tune_experiment" / "ours_bert_sst2" / STATE).stat().st_size
        clock[:] = [0.0] * args.steps  # the next update is the last
        with timing(times, *calls), ticking(tick):
            run_lad_distil.main([*ours, "--resume"])
    figures = {
        "preflight_s": round(sum(times[name][0] for name in CHECKS), 2),
        **{f"{name}_s": round(times[name][0], 2) for name in CHECKS},
        "update_ms": round(1000 * statistics.median(updates), 1),
        "state_mb": round(size / 1e6, 1),
        "state_ms": round(1000 * statistics.median(times["save"][1:])),
        "checkpoint_ms": round(1000 * statistics.median(times["save_checkpoint"])),
        "resume_s": round(times["load"][0] + times["restore"][0], 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
