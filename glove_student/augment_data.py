#!/usr/bin/env python3
"""Write every text of a file and random samples of it, for a teacher to label: words masked, words replaced.

    python augment_data.py --input data/sst2/train.txt --output data/sst2/augmented.raw --lower --parallel

Input: UTF-8, a text per line, or text, TAB, label. Output: `text<TAB>dummy`, each text before its samples. Seeded: the
same file for any number of processes. Interrupted, the same command goes on; it says so if the file is there already.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fine_tune.flags.option import Checked, flag
from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.glove.flags import WORD, AugmentConfig, CrewConfig


@dataclass(frozen=True)
class FileConfig(Checked):
    """Files."""

    input: Path = flag("file to augment: lines of text, TAB, label, without a header; only the text is needed")
    output: Path = flag("file to write; <output>.json beside it says what it was made from")
    dummy_label: str = flag("label of every line", "dummy", WORD)
    preserve_label: bool = flag("write what follows the text in the input in place of the dummy label", False)
    no_analyzer: bool = flag("split at blanks and replace no words, as --analyzer none does", False)


def read_texts(file: Path, label: bool) -> Iterator[str]:
    """Read the text of each line, or text, TAB, label.

    Raises:
        ValueError: `file:line: reason` for the first line that cannot be used.
    """
    from fine_tune.files import fault
    from fine_tune.tasks.rows import foreign_kind

    if reason := fault(file):
        raise ValueError(reason)
    with file.open("rb") as lines:
        if kind := foreign_kind(lines.read(4096)):
            raise ValueError(f"{file}: {kind}; a UTF-8 text file with a row per line is needed")
        lines.seek(0)
        for number, line in enumerate(lines, 1):
            try:
                whole = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise ValueError(f"{file}:{number}: not UTF-8: {error.reason} at byte {error.start}") from None
            text, _, rest = whole.partition("\t")
            if not text.strip():
                raise ValueError(f"{file}:{number}: empty text")
            if label and not rest.strip():
                raise ValueError(f"{file}:{number}: no label after the text; --preserve_label needs one")
            yield whole if label else text


def build_parser() -> Parser:
    """Name the flags that this script takes."""
    return Parser(__doc__, (FileConfig, CrewConfig, AugmentConfig))


def main(argv: Sequence[str] | None = None) -> None:
    """Augment one file and say what is there."""
    parser = build_parser()
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with usage_errors(parser, "interrupted; the same command goes on"):
        flags = parser.flags(args)
        files, crew = flags[FileConfig], flags[CrewConfig]

        from fine_tune.glove.stream import augment_and_tell

        def read() -> Iterator[str]:
            return read_texts(files.input, files.preserve_label)

        if files.input.resolve() == files.output.resolve():
            raise ValueError(f"--output {files.output}: this is --input; name another file")
        analyzer = "none" if files.no_analyzer else crew.analyzer
        suffix = "" if files.preserve_label else f"\t{files.dummy_label}"
        augment_and_tell(read, files.output, flags[AugmentConfig], analyzer, crew, suffix=suffix)


if __name__ == "__main__":
    main()
