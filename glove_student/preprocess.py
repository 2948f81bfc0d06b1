#!/usr/bin/env python3
"""Turn rows into token ids: for a network on word vectors (`.ids`, vocabulary, vectors), or for a transformer (`.fs`).

    python preprocess.py --config=configs/config-densenet-cnn.json --data_dir=data/sst2 --augmented

Run in this folder. Page: `doc/methods/glove.md`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.glove.config import is_glove, read_config
from fine_tune.glove.flags import EncoderConfig, RowsConfig, VectorsConfig


def build_parser() -> Parser:
    """Name the groups of flags that this script takes."""
    return Parser(__doc__, (RowsConfig, VectorsConfig, EncoderConfig))


def main(argv: Sequence[str] | None = None) -> None:
    """Read the rows, write what training and evaluation read."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)
        config = read_config(Path(flags[RowsConfig].config))

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.glove.preprocess import for_encoder, for_words
        from fine_tune.run.process import set_up_process

        set_up_process(flags[VectorsConfig].seed)
        (for_words if is_glove(config) else for_encoder)(flags, config)


if __name__ == "__main__":
    main()
