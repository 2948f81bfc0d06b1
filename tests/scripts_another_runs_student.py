"""A throw-away script: a run that continues from another run's student, on gold labels. The source is not touched."""

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import EpochConfig, OptimConfig, Pace, PrecisionConfig, RunConfig, SpeedConfig, StepConfig

GROUPS = (RunConfig, Pace, StepConfig, EpochConfig, OptimConfig, PrecisionConfig, SpeedConfig)


def build_parser():
    """Name the flags."""
    parser = Parser(__doc__, GROUPS, name_method=lambda _: "fine_tune")
    parser.add_argument("--source", required=True, help="start from the student of this experiment")
    return parser


def main(argv=None):
    """Wire and train."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)
        from fine_tune.model.load import load_run
        from fine_tune.run.source import Source
        from fine_tune.run.start import prepare, resolve, start
        from fine_tune.train.fine_tune import fine_tune

        def read(settings):
            """Read the student, its tokenizer and its length."""
            found = load_run(args.source, "bert", settings.task, None, None, "--source")
            return Source(
                found.tokenizer,
                found.max_seq_len,
                found.model,
                made_from={"source_sha256": found.checkpoint},
                origin={"everything": f"checkpoint {found.step} of {args.source}"},
            )

        run = prepare(resolve(flags), read)
        student = run.source.model.requires_grad_(True)
        session = start(run, {"": student}, origin=run.source.origin)
    with session:
        fine_tune(session, session.models[""])


if __name__ == "__main__":
    main()
