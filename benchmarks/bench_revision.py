#!/usr/bin/env python3
"""Time a LAD step of this checkout against one of another revision, in one run: the two take turns.

    python benchmarks/bench_revision.py --encoder FOLDER --before 3b69dfa

Both train `run_lad_distil.py` on the generated corpus in a process of their own, with the same rows in the same order;
one is stopped (SIGSTOP) while the other runs for `--seconds`. Time per update is active time over updates made, counted
in `metrics.jsonl`. Prints a line per round; the last line is JSON, with the ratio now / before over all rounds.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import UNDISTURBED, command_line
from fine_tune.path import PROJECT
from fine_tune.tasks.sample_corpus import write_corpus
from fine_tune.tasks.table import TASKS

WARM_UP = 30
"""Updates of each side that are not counted."""


class Side:
    """A checkout that trains; stopped unless it is its turn."""

    def __init__(self, checkout: Path, root: Path, encoder: str) -> None:
        self.log = root / "fine_tune_experiment" / "LAD_bert_sample" / "metrics.jsonl"
        self.checkout, self.env = checkout, {**os.environ, "DATA_DIR": str(root), "HF_HUB_OFFLINE": "1"}
        self.active, self.first = 0.0, 0
        common = ["--task", "sample", "--device_id", "-1", *UNDISTURBED]
        write_corpus(root / "fine_tune" / TASKS["sample"].folder)  # this checkout's: the other's may have other rows
        teacher = ["--experiment", "teacher", "--ptrain_ver", encoder, "--total_step", "1", "--lr", "1e-9"]
        self.call("run_fine_tune", *teacher, *common).wait()
        student = ["--experiment", "LAD", "--teacher_exp", "teacher", "--total_step", "100000", "--log_step", "1"]
        self.process = self.call("run_lad_distil", *student, *common)

    def call(self, script: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a script of this side."""
        command = [sys.executable, str(self.checkout / f"{script}.py"), *words]
        return subprocess.Popen(command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def updates(self) -> int:
        """Count the updates made so far."""
        return self.log.read_bytes().count(b"\n") if self.log.is_file() else 0

    def warm_up(self) -> None:
        """Let the first updates pass, then stop."""
        while self.updates() < WARM_UP:
            if self.process.poll() is not None:
                sys.exit(f"{self.checkout}: training ended with exit code {self.process.returncode}")
            time.sleep(0.05)
        self.process.send_signal(signal.SIGSTOP)
        self.first = self.updates()

    def turn(self, seconds: float) -> None:
        """Run for a while."""
        start = time.perf_counter()
        self.process.send_signal(signal.SIGCONT)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGSTOP)
        self.active += time.perf_counter() - start

    @property
    def milliseconds(self) -> float:
        """Time per update so far."""
        return 1000 * self.active / max(1, self.updates() - self.first)


def main() -> None:
    """Start both, let them take turns, print."""
    parser = command_line(__doc__)
    parser.add_argument("--before", required=True, help="revision or folder to compare with")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each side (default: 20)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a turn (default: 5)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="revision_") as name:
        checkout = Path(args.before).resolve()
        if not (checkout / "fine_tune").is_dir():
            checkout = Path(name) / "checkout"
            subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(checkout)], check=True)
            subprocess.run(["git", "-C", str(checkout), "checkout", "--quiet", args.before], check=True)
        sides: dict[str, Side] = {}
        try:
            for side, where in {"before": checkout, "now": PROJECT}.items():
                (Path(name) / side).mkdir()
                sides[side] = Side(where, Path(name) / side, args.encoder)
                sides[side].warm_up()
            for _ in range(args.rounds):
                for side in sides.values():
                    side.turn(args.seconds)
                print("  ".join(f"{side} {sides[side].milliseconds:7.1f} ms" for side in sides), flush=True)
            found = {f"{side}_ms": round(sides[side].milliseconds, 1) for side in sides}
            found["updates"] = min(side.updates() - side.first for side in sides.values())
            ratio = round(sides["now"].milliseconds / sides["before"].milliseconds, 3)
        finally:
            for side in sides.values():
                side.process.kill()
                side.process.wait()
    print(json.dumps({"before": args.before, **found, "now_over_before": ratio}))


if __name__ == "__main__":
    main()
