"""A flag is declared once: a dataclass field with its type, default, range and help becomes an argparse option.

`flag()` makes the field, `add_flags()` turns the fields of a dataclass into one argument group, `from_args()` builds
the dataclass from the parsed arguments, and `Checked` checks the ranges. Nothing else is clever in this project.
"""

import argparse
import contextlib
import dataclasses
import math
import sys
import time
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fine_tune.flags.from_config import saved_flags
from fine_tune.hardware.rank import is_main

REQUIRED = dataclasses.MISSING
Group = TypeVar("Group")
WAIT_FOR_THE_FIRST = 5.0
"""Seconds."""


class Check(NamedTuple):
    """A range: the test and the words for it."""

    passes: Callable[[Any], bool]
    words: str


POSITIVE = Check(lambda value: value > 0, "must be > 0")
NOT_NEGATIVE = Check(lambda value: value >= 0, "must be >= 0")
SEED = Check(lambda value: 0 <= value < 2**63, "must be in 0..2^63-1")
SEQUENCE = Check(lambda value: value >= 5, "must be >= 5: three special tokens and two words")
FRACTION = Check(lambda value: 0 <= value < 1, "must be in [0, 1)")
DEVICE_ID = Check(lambda value: value >= -1, "must be -1 (CPU) or the number of a GPU")


def flag(
    help: str,
    default: Any = REQUIRED,
    check: Check | None = None,
    choices: Sequence[str] = (),
    alias: Sequence[str] = (),
) -> Any:
    """Declare one option; without a `default` it is required, with the default `None` it is filled in later.

    Args:
        help: One line, with the unit.
        default: Value when the option is not given.
        check: Range of the value, checked whenever the dataclass is built.
        choices: Allowed strings.
        alias: Other spellings, without dashes.
    """
    metadata = {"help": help, "check": check, "choices": tuple(choices), "alias": tuple(alias)}
    return dataclasses.field(default=default, metadata=metadata, kw_only=True)


class Checked:
    """Base of the flag groups: every value is in its range once the object exists.

    Raises:
        ValueError: Names the flag, the range and the value received.
    """

    def __post_init__(self) -> None:
        """Check every field that has a range or choices."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value, check, choices = getattr(self, field.name), field.metadata["check"], field.metadata["choices"]
            if value is None:
                continue
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"--{field.name} must be a finite number, got {value}")
            if check and not check.passes(value):
                raise ValueError(f"--{field.name} {check.words}, got {value}")
            if choices and value not in choices:
                raise ValueError(f"--{field.name} must be one of {', '.join(choices)}, got {value!r}")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line; `--help` has the rest.

    Args:
        doc: The script's docstring, shown as it stands.
        repeats: Offer `--from_config`.
    """

    argv: list[str]
    """The command that was parsed, the script's name first."""

    def __init__(self, doc: str | None, repeats: bool = False) -> None:
        """Set the parser up."""
        super().__init__(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
        self.repeats = repeats
        if repeats:
            text = "config.json of a run to repeat: its flags hold where none are given (but --experiment anew)"
            self.add_argument("--from_config", metavar="FILE", type=Path, help=text)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse a command, and keep it; `--from_config` is read first, its values become the defaults."""
        words = list(sys.argv[1:] if args is None else args)
        self.argv = [self.prog, *words]
        if self.repeats:
            first = argparse.ArgumentParser(prog=self.prog, add_help=False, allow_abbrev=False)
            first.add_argument("--from_config", type=Path)
            file = first.parse_known_args(words)[0].from_config
            if file is not None:
                actions = {action.dest: action for action in self._actions}
                with usage_errors(self):
                    saved = saved_flags(file, self.prog, set(actions), {word.partition("=")[0] for word in words})
                for name in saved:
                    actions[name].required = False
                self.set_defaults(**saved)
        return super().parse_args(words, namespace)

    def error(self, message: str) -> typing.NoReturn:
        """Say what is wrong and exit with code 2.

        Processes after the first wait: if all have met the same error, torchrun ends them before they repeat it.
        """
        if not is_main():
            time.sleep(WAIT_FOR_THE_FIRST)
        self.exit(2, f"{self.prog}: error: {message}\n")


def value_type(annotation: Any) -> type:
    """Give the type behind `int`, `int | None` and the like."""
    if isinstance(annotation, types.UnionType):
        annotation = next(part for part in typing.get_args(annotation) if part is not types.NoneType)
    return typing.cast(type, annotation)


def add_flags(parser: argparse.ArgumentParser, group: type, title: str | None = None, prefix: str = "") -> None:
    """Add the fields of the dataclass `group` to `parser`, each name with `prefix` before it.

    A boolean that is off by default becomes `--name`, one that is on becomes `--no_name`.
    """
    section = parser.add_argument_group(title or (group.__doc__ or "").splitlines()[0].rstrip("."))
    for field in dataclasses.fields(group):
        kind, dest = value_type(field.type), prefix + field.name
        names = [f"--{dest}"] + [f"--{name}" for name in field.metadata["alias"] if not prefix]
        text = field.metadata["help"].replace("%", "%%")
        if kind is bool:
            action = "store_false" if field.default else "store_true"
            section.add_argument(f"--no_{dest}" if field.default else names[0], dest=dest, action=action, help=text)
            continue
        options: dict[str, Any] = {"choices": field.metadata["choices"] or None, "metavar": kind.__name__.upper()}
        if options["choices"]:
            del options["metavar"]
        if field.default is REQUIRED:
            options["required"] = True
        elif field.default is not None:
            text += " (default: %(default)s)"
            options["default"] = field.default
        section.add_argument(*names, dest=dest, type=kind, help=text, **options)


def add_groups(parser: argparse.ArgumentParser, groups: Sequence[type]) -> None:
    """Add the fields of several dataclasses, each under its own heading."""
    for group in groups:
        add_flags(parser, group)


def from_args(group: type[Group], args: argparse.Namespace, prefix: str = "") -> Group:
    """Build the dataclass `group` from parsed arguments."""
    values = {field.name: getattr(args, prefix + field.name) for field in dataclasses.fields(group)}  # type: ignore[arg-type]
    try:
        return group(**values)
    except ValueError as error:
        raise ValueError(str(error).replace("--", f"--{prefix}")) from None


class Flags:
    """The checked groups of a script's flags, by their class: `flags[RunConfig].seed`.

    Args:
        groups: The classes.
        args: What was parsed.
        prefix: Of their options.

    Raises:
        ValueError: A value is out of its range.
    """

    def __init__(self, groups: Sequence[type], args: argparse.Namespace, prefix: str = "") -> None:
        """Build every group."""
        self.groups: dict[type, Any] = {group: from_args(group, args, prefix) for group in groups}

    def __getitem__(self, group: type[Group]) -> Group:
        """Give a group."""
        return typing.cast(Group, self.groups[group])

    def get(self, group: type[Group]) -> Group | None:
        """Give a group, if the script has it."""
        return typing.cast(Group | None, self.groups.get(group))

    def values(self) -> dict[str, Any]:
        """Merge the groups into one flat dictionary; an earlier group wins where a name stands twice."""
        flat: dict[str, Any] = {}
        for group in reversed(self.groups.values()):
            flat |= dataclasses.asdict(group)
        return flat


def first_line(error: Exception) -> str:
    """Cut a library's message down to its first line; its name stands in for an empty one."""
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextlib.contextmanager
def usage_errors(parser: argparse.ArgumentParser, interrupted: str = "interrupted") -> Iterator[None]:
    """Turn what the user can mend (bad values, missing files) into one line and exit code 2; Ctrl-C into exit code 130.

    Wrap the wiring of a script in it, never a training loop: an error there is ours and keeps its traceback.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        parser.error(" ".join(str(error).splitlines()))
    except KeyboardInterrupt:
        parser.exit(130, f"\n{interrupted}\n")
