#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by LAD, for a number of epochs.

    python run_lad_distil_epoch.py --teacher_exp teacher --experiment LAD --task sst2 --epoch 3 --warmup_rate 0.1

The same as `run_lad_distil.py`, but for its default weight of the hidden loss: 1, as in the released script.
"""

from run_lad_distil import build_parser, main

if __name__ == "__main__":
    parser = build_parser(__doc__)
    parser.set_defaults(hidden_mse_weight=1.0)
    main(parser=parser)
