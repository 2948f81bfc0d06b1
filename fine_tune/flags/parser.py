"""Groups of flags become the options of a script, and a command becomes checked, frozen groups again."""

import argparse
import contextlib
import dataclasses
import errno
import sys
import time
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fine_tune.files import first_line
from fine_tune.flags.from_config import saved_flags
from fine_tune.flags.option import REQUIRED
from fine_tune.hardware import host
from fine_tune.hardware.host import ran_out
from fine_tune.hardware.rank import is_main

Group = TypeVar("Group")
WAIT_FOR_THE_FIRST = 5.0
"""Seconds."""


class Flags:
    """The checked groups of flags of one command, by their class: `flags[RunConfig].seed`. Nothing changes them.

    Attributes:
        command: The command that was parsed, the script's name first.
        parts: The groups that a part of the run has of its own, by the prefix of their options.
        method: Name of the method that the command asks for, see `train.methods`; "" where it trains nothing.
    """

    def __init__(
        self,
        groups: Mapping[type, Any],
        command: Sequence[str] = (),
        parts: Mapping[str, "Flags"] = types.MappingProxyType({}),
        method: str = "",
    ) -> None:
        self._groups = types.MappingProxyType(dict(groups))
        self.command = tuple(command)
        self.parts = parts
        self.method = method

    def __getitem__(self, group: type[Group]) -> Group:
        return typing.cast(Group, self._groups[group])

    def get(self, group: type[Group]) -> Group | None:
        """Give a group, if the script has it."""
        return typing.cast(Group | None, self._groups.get(group))

    def groups(self) -> list[Any]:
        """List the groups."""
        return list(self._groups.values())

    def replaced(self, *groups: Any, **parts: "Flags") -> "Flags":
        """Return a copy in which these groups, and these parts' flags, replace the old ones."""
        replaced = {type(group): group for group in groups}
        return Flags(self._groups | replaced, self.command, {**self.parts, **parts}, self.method)

    def values(self) -> dict[str, Any]:
        """Merge the groups into one flat dictionary; the earlier group wins where a name stands twice."""
        flat: dict[str, Any] = {}
        for group in reversed(list(self._groups.values())):
            flat |= dataclasses.asdict(group)
        return flat


class Parser(argparse.ArgumentParser):
    """An argument parser of flag groups whose errors are one line; `--help` has the rest.

    Args:
        doc: The script's docstring, shown as it stands.
        groups: Groups of flags, each under a heading of its own.
        parts: Groups that parts of the run have of their own, by the prefix of their options; a heading for each group.
        repeats: Offer `--from_config`.
        name_method: Names the method from the script and its flags.
    """

    def __init__(
        self,
        doc: str | None,
        groups: Sequence[type] = (),
        parts: Mapping[str, Mapping[type, str]] = types.MappingProxyType({}),
        repeats: bool = False,
        name_method: Callable[[dict[str, Any]], str] = lambda _: "",
    ) -> None:
        super().__init__(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
        self.groups = tuple(groups)
        self.parts = parts
        self.repeats = repeats
        self.name_method = name_method
        if repeats:
            text = "repeat the run of this config.json: its flags hold where none are given (but --experiment anew)"
            self.add_argument("--from_config", metavar="FILE", type=Path, help=text)
        for group in groups:
            add_flags(self, group)
        for prefix, own in parts.items():
            for group, title in own.items():
                add_flags(self, group, title, prefix)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse a command; `--from_config` is read first, its values become the defaults."""
        host.settle()
        words = list(sys.argv[1:] if args is None else args)
        self.command = [self.prog, *words]
        if self.repeats:
            first = argparse.ArgumentParser(prog=self.prog, add_help=False, allow_abbrev=False)
            first.add_argument("--from_config", type=Path)
            file = first.parse_known_args(words)[0].from_config
            if file is not None:
                actions = {action.dest: action for action in self._actions}
                given = {self._option_string_actions[word].dest for word in spellings(words, self)}
                with usage_errors(self):
                    saved = saved_flags(file, self.prog, set(actions), given, self.decides())
                for name in saved:
                    actions[name].required = False
                self.set_defaults(**saved)
        return super().parse_args(words, namespace)

    def flags(self, args: argparse.Namespace) -> Flags:
        """Check what was parsed.

        Raises:
            ValueError: A value is out of its range.
        """
        groups: dict[type, Any] = {group: from_args(group, args) for group in self.groups}
        parts = {
            prefix: Flags({group: from_args(group, args, prefix) for group in own})
            for prefix, own in self.parts.items()
        }
        return Flags(groups, self.command, parts, self.name_method(vars(args)))

    def decides(self) -> dict[str, set[str]]:
        """Collect which values of a saved run follow from which flag, those of its parts among them."""
        found = {field.name: field.metadata["decides"] for group in self.groups for field in dataclasses.fields(group)}
        return {
            flag: {prefix + name for name in names for prefix in ("", *self.parts)} for flag, names in found.items()
        }

    def error(self, message: str) -> typing.NoReturn:
        """Say what is wrong and exit with code 2.

        Processes after the first wait: if all have met the same error, torchrun ends them before they repeat it.
        """
        if not is_main():
            time.sleep(WAIT_FOR_THE_FIRST)
        self.exit(2, f"{self.prog}: error: {message}\n")


def spellings(words: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """List the options of a command, as they were typed."""
    typed = (word.partition("=")[0] for word in words)
    return [word for word in typed if word in parser._option_string_actions]


def value_type(annotation: Any) -> type:
    """Give the type behind `int`, `int | None` and the like."""
    if isinstance(annotation, types.UnionType):
        annotation = next(part for part in typing.get_args(annotation) if part is not types.NoneType)
    return typing.cast(type, annotation)


def add_flags(parser: argparse.ArgumentParser, group: type, title: str | None = None, prefix: str = "") -> None:
    """Add the fields of the dataclass `group` to `parser`, each name with `prefix` before it.

    A boolean that is off by default becomes `--name`; one that is on becomes `--no_name`, and its help "do not ..".
    """
    section = parser.add_argument_group(title or (group.__doc__ or "").splitlines()[0].rstrip("."))
    for field in dataclasses.fields(group):
        kind, dest = value_type(field.type), prefix + field.name
        names = [f"--{dest}"] + [f"--{name}" for name in field.metadata["alias"] if not prefix]
        text = field.metadata["help"].replace("%", "%%")
        if kind is bool:
            action = "store_false" if field.default else "store_true"
            name, text = (f"--no_{dest}", f"do not {text}") if field.default else (names[0], text)
            section.add_argument(name, dest=dest, action=action, help=text)
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


def from_args(group: type[Group], args: argparse.Namespace, prefix: str = "") -> Group:
    """Build the dataclass `group` from parsed arguments."""
    values = {field.name: getattr(args, prefix + field.name) for field in dataclasses.fields(group)}  # type: ignore[arg-type]
    try:
        return group(**values)
    except ValueError as error:
        raise ValueError(str(error).replace("--", f"--{prefix}")) from None


@contextlib.contextmanager
def usage_errors(parser: argparse.ArgumentParser, interrupted: str = "interrupted") -> Iterator[None]:
    """Turn what the user can mend (bad values, missing files) into one line and exit code 2; Ctrl-C into exit code 130.

    Wrap the wiring of a script in it, never a training loop: an error there is ours and keeps its traceback.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        locked = isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES)
        cure = "; DATA_DIR=<folder> before the command puts data and runs elsewhere" if locked else ""
        parser.error(" ".join(str(error).splitlines()) + cure)
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        parser.exit(1, f"{parser.prog}: no memory left ({first_line(error)}); a smaller --batch_size needs less\n")
    except KeyboardInterrupt:
        parser.exit(130, f"\n{interrupted}\n")
