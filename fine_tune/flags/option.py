"""A flag is declared once, as a field of a frozen dataclass: its type, default, range and help.

`flag()` makes the field, `Checked` checks its range. `parser.py` turns groups of fields into command-line options.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

REQUIRED = dataclasses.MISSING


class Check(NamedTuple):
    """A range: the test, and the words for it."""

    passes: Callable[[Any], bool]
    words: str


POSITIVE = Check(lambda value: value > 0, "must be > 0")
NOT_NEGATIVE = Check(lambda value: value >= 0, "must be >= 0")
SEED = Check(lambda value: 0 <= value < 2**63, "must be in 0..2^63-1")
SEQUENCE = Check(lambda value: value >= 5, "must be >= 5: three special tokens and two words")
FRACTION = Check(lambda value: 0 <= value < 1, "must be in [0, 1)")
PART = Check(lambda value: 0 < value < 1, "must be between 0 and 1")
SHARE = Check(lambda value: 0 <= value <= 1, "must be in [0, 1]")
DEVICE_ID = Check(lambda value: value >= -1, "must be -1 (CPU) or the number of a GPU")


def flag(
    help: str,
    default: Any = REQUIRED,
    check: Check | None = None,
    choices: Sequence[str] = (),
    alias: Sequence[str] = (),
    decides: Sequence[str] = (),
    spell: Callable[[Any], Any] | None = None,
) -> Any:
    """Declare one option.

    Args:
        help: One line that says what the flag does when it is given, with the unit.
        default: Value if the flag is not given; without one it is required, None means that the program works it out.
        check: Range of the value, checked whenever the dataclass is built.
        choices: Allowed strings.
        alias: Other spellings, without dashes.
        decides: Values of a saved run that follow from this flag, so that `--from_config` works them out anew.
        spell: Gives the one spelling of a value that can be written in several ways.
    """
    metadata = {
        "help": help,
        "check": check,
        "choices": tuple(choices),
        "alias": tuple(alias),
        "decides": decides,
        "spell": spell,
    }
    return dataclasses.field(default=default, metadata=metadata, kw_only=True)


class Checked:
    """Base of the flag groups: every value of an object is in its range.

    Raises:
        ValueError: Names the flag, the range and the value received.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value, check, choices = getattr(self, field.name), field.metadata["check"], field.metadata["choices"]
            if value is None:
                continue
            if spell := field.metadata["spell"]:
                object.__setattr__(self, field.name, spell(value))
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"--{field.name} must be a finite number, got {value}")
            if check and not check.passes(value):
                raise ValueError(f"--{field.name} {check.words}, got {value}")
            if choices and value not in choices:
                raise ValueError(f"--{field.name} must be one of {', '.join(choices)}, got {value!r}")
