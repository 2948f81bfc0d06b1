"""A throw-away script: distil a student from logits in a file. No teacher is in memory; flags alone say its sizes."""

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import EpochConfig, OptimConfig, Pace, PrecisionConfig, RunConfig, SpeedConfig, StepConfig
from fine_tune.train.methods import LogitConfig

GROUPS = (RunConfig, Pace, StepConfig, EpochConfig, OptimConfig, PrecisionConfig, SpeedConfig, LogitConfig)


def build_parser():
    """Name the flags."""
    parser = Parser(__doc__, GROUPS, name_method=lambda _: "kd")
    parser.add_argument("--logits", required=True, help="read the teacher's logits, a row per row of train, from here")
    parser.add_argument("--tokenizer", required=True, help="cut text with the tokenizer of this folder")
    return parser


def main(argv=None):
    """Wire and train."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)
        import numpy as np
        import torch
        from transformers import BertConfig, BertModel

        from fine_tune.data.tokens import load_tokenizer
        from fine_tune.model.classifier import Classifier
        from fine_tune.run.source import Source
        from fine_tune.run.start import prepare, resolve, start
        from fine_tune.teacher.protocol import TeacherOutput
        from fine_tune.train.kd import train_kd

        class FileTeacher:
            """Looks the logits of a batch up by row number."""

            logits = torch.from_numpy(np.load(args.logits))

            def expect(self, update):
                """Prepare nothing."""

            def __call__(self, batch):
                return TeacherOutput(self.logits[batch.rows], {})

        settings = resolve(flags)
        run = prepare(settings, lambda _: Source(load_tokenizer(args.tokenizer), max_seq_len=24))
        words, heads = len(run.source.tokenizer), 2
        sizes = BertConfig(
            vocab_size=words, hidden_size=16, num_hidden_layers=2, num_attention_heads=heads, intermediate_size=32
        )
        student, teacher = Classifier(BertModel(sizes), run.task.num_class, 0.1), FileTeacher()
        session = start(run, {"": student}, teacher, origin={"everything": "random"})
    with session:
        train_kd(session, teacher, session.models[""], flags[LogitConfig])


if __name__ == "__main__":
    main()
