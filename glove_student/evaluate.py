#!/usr/bin/env python3
"""Score a model on test.txt, row by row or in batches; or have a transformer label the augmented rows.

    python evaluate.py --config=configs/config-glove-cnn.json --data_dir=data/sst2 --model_path=pytorch-model-cnn.pt
    python evaluate.py --config=configs/config-bert-cls.json --data_dir=data/sst2 --bert_output_dir=bert-checkpoint \
      --batch_size=128 --augmented

Run in this folder. Page: `doc/methods/glove.md`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.glove.config import is_glove, read_config
from fine_tune.glove.flags import OutputConfig, RowsConfig, ScoreConfig


def build_parser() -> Parser:
    """Name the groups of flags that this script takes."""
    return Parser(__doc__, (RowsConfig, ScoreConfig, OutputConfig))


def main(argv: Sequence[str] | None = None) -> None:
    """Read model and rows, score or label them, write what was predicted."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)
        config = read_config(Path(flags[RowsConfig].config))
        flags[ScoreConfig].check(is_glove(config), flags[RowsConfig].augmented)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.glove.score import label_rows, open_model, score_lines, score_rows, write_onnx

        subject = open_model(flags, config)
        if flags[ScoreConfig].convert_onnx:
            write_onnx(subject)
        elif flags[RowsConfig].augmented:
            label_rows(subject)
        elif flags[ScoreConfig].enable_inference:
            score_lines(subject)
        else:
            score_rows(subject)


if __name__ == "__main__":
    main()
