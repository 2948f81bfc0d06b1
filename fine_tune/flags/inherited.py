"""Flags that a run takes over from the student that it continues, unless they are given."""

import argparse

from fine_tune.flags.parser import Flags, Parser
from fine_tune.flags.saved import load_config
from fine_tune.path import experiment_name, run_dir
from fine_tune.tasks.named import task_named

INHERITED = {"dataset": "train", "seed": 42}
"""And what stands for them where a released source does not say."""


def let_inherit(parser: Parser) -> None:
    """Leave these flags open, and say in the help where they come from."""
    for action in parser._actions:
        if action.dest in INHERITED and action.help:
            action.help = action.help.replace("(default: %(default)s)", "(default: the source's)")
    parser.set_defaults(**dict.fromkeys(INHERITED))


def inherited(parser: Parser, args: argparse.Namespace) -> Flags:
    """Check what was parsed, with what was left open taken from the source's configuration.

    Raises:
        ValueError: A value is out of its range.
        FileNotFoundError: There is no such source.
    """
    missing = [name for name in INHERITED if getattr(args, name) is None]
    if missing:
        experiment_name(args.src_experiment, "", "", "--src_experiment")
        values = load_config(run_dir(args.src_experiment, args.model, task_named(args.task).name), "--src_experiment")
        for name in missing:
            setattr(args, name, values.get(name, INHERITED[name]))
    return parser.flags(args)
