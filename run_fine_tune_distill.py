#!/usr/bin/env python3
"""Distil logits in a file into a student, with no teacher in memory; the student can be the next one's assistant.

    python run_fine_tune_gen_logits.py --experiment teacher --task boolq --dataset train
    python run_fine_tune_distill.py --dataset teacher_bert_boolq --experiment TA --task boolq --epoch 10

Sizes come from flags alone; the student is random unless `--init_*` names what to copy. Loop: `fine_tune/train/kd.py`;
method: `doc/methods/offline.md`.
"""

from collections.abc import Sequence

from fine_tune.flags.older import add_num_gpu, refuse_both
from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import RunConfig
from fine_tune.train.methods import LogitConfig, method_parser


def build_parser() -> Parser:
    """Build the command line: shared flags and those of this script's method."""
    parser = method_parser("run_fine_tune_distill", __doc__)
    add_num_gpu(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    parser = build_parser()
    args = parser.parse_args(argv)
    refuse_both(parser)
    with usage_errors(parser):
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.run.source import read_sizes
        from fine_tune.run.start import prepare, resolve, start
        from fine_tune.teacher.offline import OfflineTeacher
        from fine_tune.train.kd import train_kd

        run = prepare(resolve(flags), read_sizes)
        logits = run.task.file(flags[RunConfig].dataset)
        teacher = OfflineTeacher(logits, run.task.num_class, run.devices.student)
        session = start(run, {"": run.source.model}, teacher, origin=dict(run.source.origin))

    with session:
        train_kd(session, teacher, session.models[""], flags[LogitConfig])


if __name__ == "__main__":
    main()
