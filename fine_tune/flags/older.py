"""An older spelling of a flag, which the BoolQ document has."""

import argparse

from fine_tune.flags.parser import Parser


def add_num_gpu(parser: Parser) -> None:
    """Let a script take `--num_gpu` in the place of `--device_id`, but not beside it."""
    text = "older spelling of --device_id: 0 is the CPU, 1 the first GPU"
    parser.add_argument("--num_gpu", dest="device_id", type=device_of, metavar="{0,1}", help=text)


def device_of(num_gpu: str) -> int:
    """Turn a number of GPUs into the number of a device."""
    if num_gpu not in ("0", "1"):
        raise argparse.ArgumentTypeError(f"must be 0 or 1, got {num_gpu!r}; --device_id takes the number of a GPU")
    return int(num_gpu) - 1


def refuse_both(parser: Parser) -> None:
    """End with a usage error where a command that was parsed names a device twice."""
    if {"--num_gpu", "--device_id"} <= {word.partition("=")[0] for word in parser.command}:
        parser.error("--num_gpu and --device_id both name a device; give one of them")
