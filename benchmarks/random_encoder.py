#!/usr/bin/env python3
"""Write a BERT of base size with random weights, for machines that no pre-trained one can be brought to.

    python benchmarks/random_encoder.py FOLDER [--tokenizer ENCODER] [--num_hidden_layers 12 ...]

What a step costs depends on sizes and rows, not on the values of weights. The tokenizer, which sets the rows' lengths,
is another encoder's, or by default one of WordPieces learned from the generated corpus (`--task sample`).
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tokenizers import BertWordPieceTokenizer
from transformers import AutoTokenizer, BertConfig, BertTokenizerFast, PreTrainedTokenizerBase

from benchmarks.common import write_encoder
from fine_tune.tasks.sample_corpus import make_corpus

BASE = BertConfig().to_dict()
SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")


def learned_tokenizer(vocab_size: int) -> PreTrainedTokenizerBase:
    """Learn WordPieces, at most `vocab_size`, from the generated corpus."""
    learner = BertWordPieceTokenizer()
    learner.train_from_iterator((text for rows in make_corpus().values() for text, _ in rows), vocab_size)
    with TemporaryDirectory() as folder:
        learner.save_model(folder)
        return BertTokenizerFast(vocab=f"{folder}/vocab.txt", model_max_length=BASE["max_position_embeddings"])


def main() -> None:
    """Write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the encoder goes")
    parser.add_argument("--tokenizer", help="hub name or folder whose tokenizer is taken (default: learn one)")
    for size in SIZES:
        parser.add_argument(f"--{size}", type=int, default=BASE[size], help=f"(default: {BASE[size]})")
    args = parser.parse_args()
    taken = AutoTokenizer.from_pretrained(args.tokenizer) if args.tokenizer else learned_tokenizer(args.vocab_size)
    write_encoder(args.folder, BertConfig(**{size: getattr(args, size) for size in SIZES}), taken)


if __name__ == "__main__":
    main()
