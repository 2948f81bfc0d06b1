"""Generates the sample corpus: movie-review sentences with binary sentiment, in the file format of GLUE's SST-2.

Usage:
    python generate_sample_corpus.py
    python generate_sample_corpus.py --seed 7 --output /tmp/SAMPLE --bag_of_words
"""

import argparse
import pathlib
import sys

from fine_tune import sample_corpus


def build_parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = argparse.ArgumentParser(description="Generate the sample corpus of movie-review sentences.")
    parser.add_argument("--seed", type=int, default=42, help="seed of the draws (default: %(default)s)")
    parser.add_argument("--output", type=pathlib.Path, help="folder of the files (default: the SAMPLE task folder)")
    parser.add_argument("--bag_of_words", action="store_true", help="also print the dev accuracy of word counts")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there with other content")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    args = build_parser().parse_args(argv)
    if args.output is None:
        from fine_tune.path import task_dir

        args.output = task_dir("SAMPLE")
    folder: pathlib.Path = args.output
    corpus = sample_corpus.make_corpus(args.seed)
    wanted = {name: text.encode() for name, text in sample_corpus.corpus_files(corpus).items()}
    found = {name: (folder / name).read_bytes() for name in wanted if (folder / name).exists()}
    different = [name for name in found if found[name] != wanted[name]]
    if different and not args.overwrite:
        print(f"{folder} holds other content in {', '.join(different)}; replace it with --overwrite", file=sys.stderr)
        return 2

    if found != wanted:
        sample_corpus.write_corpus(folder, args.seed)
    rows = ", ".join(f"{split} {len(corpus[split])}" for split in corpus)
    print(f"{'already there' if found == wanted else 'wrote'}: {folder} ({rows} rows)")
    if args.bag_of_words:
        for ngrams, name in ((1, "bag of words"), (2, "bag of words and bigrams")):
            print(f"dev accuracy of a {name}: {sample_corpus.bag_of_words_accuracy(corpus, ngrams):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
