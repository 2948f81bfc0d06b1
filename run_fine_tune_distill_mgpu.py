#!/usr/bin/env python3
r"""Distil hidden states of all tokens, logits, and a supervised contrast of labels; at once, or in two stages.

    python run_fine_tune_distill_mgpu.py --teacher_exp teacher --experiment match --task mnli --epoch 4 \
        --use_hidden_loss --use_classify_loss --softmax_temp 10 --soft_weight 0.5 [--ce_weight 0.5] [--cls_steps 10000]

Teacher and student may be on different devices (`--tdevice_id`). Loops: `fine_tune/train/match.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import RunConfig, StepConfig
from fine_tune.train.methods import METHODS, MapConfig, MatchConfig, method_parser


def build_parser() -> Parser:
    """Build the command line: shared flags and those of this script's methods."""
    return method_parser("run_fine_tune_distill_mgpu", __doc__)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.data.batches import SHUFFLED, Deal
        from fine_tune.data.contrast import balanced, check_classes
        from fine_tune.layer_map import layer_map
        from fine_tune.run.duration import warn_of_stage
        from fine_tune.run.start import build_student, open_teacher, prepare, resolve, start
        from fine_tune.teacher.protocol import Needs
        from fine_tune.train.match import tell_mu, train_match, train_match_classify, train_match_hidden

        run = prepare(resolve(flags))
        cfg, hidden, words = flags[MatchConfig], flags[MatchConfig].use_hidden_loss, flags[MapConfig].layer_map
        if words and not hidden:
            raise ValueError(f"--layer_map {words} has no effect without --use_hidden_loss")
        warn_of_stage("cls_steps", cfg.cls_steps, run.flags[StepConfig])
        deal = SHUFFLED
        if cfg.use_classify_loss and cfg.ce_weight < 1:
            check_classes(run.rows, flags[RunConfig])
            deal = Deal(balanced)
        follows = layer_map(words, *run.layers) if hidden else {}
        student, origin = build_student(run, matched=hidden)
        teacher = open_teacher(run, Needs(METHODS[flags.method].needs, tuple(sorted(set(follows.values())))))
        if hidden:
            tell_mu(cfg.mu, run.layers[1])
        staged = cfg.cls_steps > 0 or not cfg.use_classify_loss or cfg.ce_weight == 0
        session = start(run, {"": student}, teacher, origin=origin, layer_map=follows, deal=deal, staged=staged)

    with session:
        if flags.method == "match" and not cfg.cls_steps:
            train_match(session, teacher, session.models[""], follows, cfg)
        if flags.method == "match_hidden" or cfg.cls_steps:
            train_match_hidden(session, teacher, session.models[""], follows, cfg)
        if flags.method == "match_classify" or cfg.cls_steps:
            train_match_classify(session, teacher, session.models[""], cfg)


if __name__ == "__main__":
    main()
