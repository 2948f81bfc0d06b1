#!/usr/bin/env python3
"""Train every method in two checkouts of this project and compare what comes out, to the last bit.

    python tests/same_results.py --before 3b69dfa

The other side is a revision, which git checks out in a temporary folder, or a folder. Each run makes six float32
updates of a tiny random model on a CPU, with dropout and two micro-batches, once in one process and once in two.
Compared are the weights in every checkpoint and `metrics.jsonl`. Prints a line per run; exit code 1 if one differs.
"""

import argparse
import contextlib
import importlib
import json
import os
import pkgutil
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLAGS = (
    "--task sst2 --device_id -1 --seed 5 --batch_size 8 --accum_step 2 --total_step 6 --warmup_step 2 --log_step 1 "
    "--ckpt_step 3 --state_step 2 --lr 0.01 --no_preflight"
).split()
TEACHER = "--teacher_exp teacher --softmax_temp 3".split()
VARIANTS = {
    "no_teacher": "run_student_fine_tune",
    "lad_epoch": "run_lad_distil_epoch --gate_lr 0.01",
    "lad_open": "run_lad_distil --gate_lr 0.01 --gate_norm token --gate_norm_init teacher --gate_init_bias 3",
    "lad_padded": "run_lad_distil --gate_lr 0.01 --pad_to_max",
    "lad_cached": "run_lad_distil --gate_lr 0.01 --teacher_cache states",
    "lad_narrow": "run_lad_distil --gate_lr 0.01 --d_model 8 --student_init random",
    "lad_every_row": "run_lad_distil --gate_lr 0.01 --no_lazy_embedding --gradient_checkpointing",
    "kd_pretrained": "run_kd_distil --init_from pretrained --student_init first",
}
"""Runs beside those of `methods.METHODS`: flags that change what is computed."""


def commands() -> dict[str, list[str]]:
    """Give script and flags of every run, by name."""
    from methods import GATES, METHODS

    found = {"teacher": ["run_fine_tune", *FLAGS, "--ptrain_ver", "encoder", "--max_seq_len", "24"]}
    for name, (script, own) in METHODS.items():
        gates = ["--gate_lr", "0.01"] if name in GATES else []
        found[name] = [script, *FLAGS, *TEACHER, *map(str, own), *gates]
    for name, words in VARIANTS.items():
        script, *own = words.split()
        found[name] = [script, *FLAGS, *(TEACHER if name != "no_teacher" else TEACHER[:2]), *own]
    return found


def start(script: str, words: list[str], log: Path, ranks: int) -> list[int]:
    """Fork a script's processes, which have imported everything already; give their ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(ranks)}
    processes = []
    for rank in range(ranks):
        if process := os.fork():
            processes.append(process)
            continue
        code = 1
        try:
            os.environ |= {**world, "RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}
            with log.open("a") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
            importlib.import_module(script).main(words)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            os._exit(code)
    return processes


def work(checkout: Path, root: Path) -> None:
    """Make all runs with the code of `checkout` in the data folder `root`."""
    sys.path.insert(0, str(checkout))
    os.environ |= {"DATA_DIR": str(root), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    os.chdir(root)
    import torch

    import fine_tune

    for module in pkgutil.walk_packages(fine_tune.__path__, "fine_tune."):  # before the forks, once for all
        importlib.import_module(module.name)
    torch.set_num_threads(1)
    found = json.loads((root / "commands.json").read_text(encoding="utf-8"))  # this checkout's, for both sides
    for ranks in (1, 2):
        for name, (script, *words) in found.items():
            experiment = name if name == "teacher" and ranks == 1 else f"{name}-{ranks}"
            log = root / f"{experiment}.log"
            ids = start(script, ["--experiment", experiment, *words], log, ranks)
            if any(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in ids):
                sys.exit(f"{checkout}: {experiment} failed:\n{log.read_text()[-2000:]}")


def compare(mine: Path, other: Path) -> list[str]:
    """Say what differs between two runs."""
    import torch

    names = [{file.name for file in folder.glob("*.pt")} for folder in (mine, other)]
    found = [f"only one side has {', '.join(sorted(names[0] ^ names[1]))}"] if names[0] != names[1] else []
    for name in sorted(names[0] & names[1]):
        one, two = (torch.load(folder / name, weights_only=True) for folder in (mine, other))
        if one.keys() != two.keys() or not all(torch.equal(one[key], two[key]) for key in one):
            found.append(name)
    if (mine / "metrics.jsonl").read_bytes() != (other / "metrics.jsonl").read_bytes():
        found.append("metrics.jsonl")
    return found


def main() -> None:
    """Prepare both sides, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="revision or folder to compare with")
    parser.add_argument("--work", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return work(*args.work)
    with tempfile.TemporaryDirectory(prefix="same_results_") as name:
        base, here = Path(name), HERE.parent
        before = Path(args.before).resolve()
        if not (before / "fine_tune").is_dir():
            before = base / "checkout"
            subprocess.run(["git", "clone", "--quiet", str(here), str(before)], check=True)
            subprocess.run(["git", "-C", str(before), "checkout", "--quiet", args.before], check=True)
        sides = {"now": here, "before": before}
        from conftest import SIZES, make_encoder, write_task  # of this checkout: both sides read the same data
        from transformers import BertConfig

        for side, checkout in sides.items():
            (base / side).mkdir()
            write_task(base / side, "sst2", train=44)
            make_encoder(base / side / "encoder", BertConfig(**SIZES))
            (base / side / "commands.json").write_text(json.dumps(commands()), encoding="utf-8")
            print(f"{side}: {checkout}", flush=True)
            command = [sys.executable, __file__, "--before", str(before), "--work", str(checkout), str(base / side)]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(checkout)})
        runs = sorted((base / "now" / "fine_tune_experiment").glob("*_bert_sst2"))
        bad = 0
        for run in runs:
            found = compare(run, base / "before" / "fine_tune_experiment" / run.name)
            bad += bool(found)
            print(f"{run.name:<40} {'differs: ' + ', '.join(found) if found else 'the same'}")
        print(f"{len(runs)} runs, {bad} of them differ")
        sys.exit(int(bad > 0))


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    main()
