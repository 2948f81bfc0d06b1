#!/usr/bin/env python3
"""Generate the sample corpus: film-review sentences with binary sentiment, in the file format of GLUE's SST-2.

    python generate_sample_corpus.py --bag_of_words
    python generate_sample_corpus.py --csv reviews.csv --rows 2000     # one table, as a user may have one

Grammar: `fine_tune/tasks/sample_corpus.py`. The task that reads the first is `--task sample`; doc/your_own_data.md uses
the second.
"""

from collections.abc import Sequence
from pathlib import Path

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.path import task_dir
from fine_tune.tasks import sample_corpus


def build_parser() -> Parser:
    """Declare the flags."""
    parser = Parser(__doc__)
    parser.add_argument("--seed", type=int, default=42, help="seed of the sentences (default: 42)")
    parser.add_argument("--output", type=Path, help="folder of the files (default: where --task sample looks)")
    parser.add_argument("--bag_of_words", action="store_true", help="also print the dev accuracy of word counts")
    parser.add_argument("--csv", type=Path, help="write a csv instead: review, sentiment (negative, positive)")
    parser.add_argument("--rows", type=int, default=2000, help="rows of that table (default: 2000)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there with other content")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Generate, write, say so."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.csv and (args.output or args.bag_of_words):
        parser.error("--csv writes one table of training rows: leave out --output and --bag_of_words")
    if args.rows < 1:
        parser.error(f"--rows must be at least 1, got {args.rows}")
    folder = args.csv.parent if args.csv else args.output or task_dir("SAMPLE")
    corpus = sample_corpus.make_corpus(args.seed, {"train": args.rows} if args.csv else None)
    files = {args.csv.name: sample_corpus.table(corpus)} if args.csv else sample_corpus.corpus_files(corpus)
    wanted = {name: text.encode() for name, text in files.items()}
    with usage_errors(parser):
        found = {name: (folder / name).read_bytes() for name in wanted if (folder / name).exists()}
        different = [name for name in found if found[name] != wanted[name]]
        if different and not args.overwrite:
            raise ValueError(f"{folder} holds other content in {', '.join(different)}; replace it with --overwrite")
        if found != wanted:
            sample_corpus.write_files(folder, files)
    rows = ", ".join(f"{split} {len(corpus[split])}" for split in corpus)
    print(f"{'already there' if found == wanted else 'wrote'}: {args.csv or folder} ({rows} rows)")
    if args.bag_of_words:
        for ngrams, name in ((1, "bag of words"), (2, "bag of words and bigrams")):
            print(f"dev accuracy of a {name}: {sample_corpus.bag_of_words_accuracy(corpus, ngrams):.3f}")


if __name__ == "__main__":
    main()
