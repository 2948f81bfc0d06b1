"""The Korean parts of the GloVe document, whose own were never published: rows, their morphemes, vectors, an encoder.

| made | is |
|---|---|
| `data/clova_sentiments/` | film reviews, `sentence<TAB>label`, as in the archive |
| `data/clova_sentiments_morph/` | the same rows as kiwi's morphemes with blanks between |
| `embeddings/kor.glove.300k.300d.txt` | word2vec (skip-gram) of the training rows' morphemes, not GloVe |
| `embeddings/pytorch.all.dha.2.5m_step/` | a small BERT: random weights, a WordPiece vocabulary of those morphemes |

Only training rows are learned from. With a seed, every file is the same again: one thread draws, and characters stand
in the vocabulary in their own order, without which the trainer's ties fall differently in every process.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from fine_tune.files import fill_folder, lock, unlock, write_text
from fine_tune.flags.option import POSITIVE, SEQUENCE, Check, Checked, flag
from fine_tune.glove.analyze import analyzer_named
from fine_tune.glove.rows import read_rows
from fine_tune.glove.vectors import write_vectors
from fine_tune.tasks.download import locate, unpack
from fine_tune.tasks.table import Task

if TYPE_CHECKING:
    import numpy

CLOVA = Task("clova", "clova_sentiments", ("sentence",), "label", splits=("train", "valid", "test"), suffix="txt")
VECTORS = "kor.glove.300k.300d.txt"
ENCODER = "pytorch.all.dha.2.5m_step"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
AT_ONCE = 1000
"""Rows that the analyzer is given at once."""


@dataclass(frozen=True)
class KoreanConfig(Checked):
    """Sizes of what is made."""

    word_dimension: int = flag("numbers of a word vector", 300, POSITIVE)
    word_count: int = flag("least number of times that a morpheme with a vector occurs", 2, POSITIVE)
    word_epochs: int = flag("epochs of word2vec", 10, POSITIVE)
    word_window: int = flag("neighbours to each side that word2vec predicts", 5, POSITIVE)
    pieces: int = flag("size of the encoder's vocabulary, characters included", 8000, POSITIVE)
    layers: int = flag("layers of the encoder", 4, POSITIVE)
    width: int = flag("width of the encoder, a multiple of --heads", 256, POSITIVE)
    heads: int = flag("attention heads of the encoder", 4, POSITIVE)
    positions: int = flag("longest row of the encoder, in tokens", 512, SEQUENCE)
    seed: int = flag("seed of vectors and weights", 42, Check(lambda value: 0 <= value < 2**32, "must be in 0..2^32-1"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ValueError(f"--width must be a multiple of --heads {self.heads}, got {self.width}")


def prepare(source: str, folder: Path, cfg: KoreanConfig) -> dict[Path, bool]:
    """Make what is not there yet, each whole or not at all.

    Args:
        source: File or address of the archive, which holds `clova_sentiments/{train,valid,test}.txt`.
        folder: Gets `data/` and `embeddings/`.
        cfg: Sizes.

    Returns:
        Whether each was made; else it was there.

    Raises:
        ValueError: The archive, one of its rows, or what is there cannot be used.
        OSError: The archive is not there, or something cannot be written.
    """
    raw, morph = folder / "data" / CLOVA.folder, folder / "data" / f"{CLOVA.folder}_morph"
    encoder, vectors = folder / "embeddings" / ENCODER, folder / "embeddings" / VECTORS
    made = {path: not path.exists() for path in (raw, morph, vectors, encoder)}
    for path in (raw, encoder):
        path.parent.mkdir(parents=True, exist_ok=True)
    fill_folder(raw, partial(unpack_rows, source))
    fill_folder(morph, partial(write_morphemes, raw))
    rows = [text.split(" ") for (text,) in read_rows(split_file(morph, "train")).texts]
    lock(vectors, wait=True)
    try:
        if not vectors.exists():
            write_vectors(vectors, *word2vec(rows, cfg))
    finally:
        unlock(vectors)
    fill_folder(encoder, partial(write_encoder, rows, cfg))
    return made


def split_file(folder: Path, split: str) -> Path:
    """Name the file of a split.

    Raises:
        ValueError: It is not in its folder.
    """
    file = folder / f"{split}.{CLOVA.suffix}"
    if not file.is_file():
        raise ValueError(f"{folder} has no {file.name}; move the folder away, and it is made anew")
    return file


def unpack_rows(source: str, folder: Path) -> None:
    """Fetch the archive and unpack it; every row is read once.

    Raises:
        ValueError: The archive or a row cannot be used.
        OSError: The archive is not there.
    """
    where, name = os.path.split(source)
    if not name:
        raise FileNotFoundError(
            "no archive is named; set KOREAN_ZIP to clova_sentiments.zip, or GLUE_MIRROR to its folder"
        )
    with tempfile.TemporaryDirectory(prefix=".clova.", dir=folder.parent) as temporary:
        unpack(locate(name, where or ".", Path(temporary)), CLOVA, f"{CLOVA.folder}/", folder)
    for split in CLOVA.splits:
        if not (folder / f"{split}.{CLOVA.suffix}").is_file():
            raise ValueError(f"{source} has no {CLOVA.folder}/{split}.{CLOVA.suffix}")
        read_one_text(folder / f"{split}.{CLOVA.suffix}")


def read_one_text(file: Path) -> list[tuple[str, str]]:
    """Read rows of one text and a label.

    Raises:
        ValueError: `file:line: reason`; of a row with two texts, or a text with a TAB inside, among others.
    """
    rows = read_rows(file)
    if len(rows.texts[0]) != 1:
        raise ValueError(f"{file}:1: a text with a TAB inside; rows are sentence<TAB>label")
    return [(text, label) for (text,), label in zip(rows.texts, rows.labels, strict=True)]


def write_morphemes(raw: Path, folder: Path) -> None:
    """Write the rows of every split as morphemes.

    Raises:
        ValueError: A row cannot be used.
    """
    tag = analyzer_named("kiwi").load()
    for split in CLOVA.splits:
        rows = read_one_text(split_file(raw, split))
        texts = [text for text, _ in rows]
        tagged = chain.from_iterable(tag(texts[at : at + AT_ONCE]) for at in range(0, len(texts), AT_ONCE))
        lines = [f"{' '.join(words)}\t{label}\n" for (words, _), (_, label) in zip(tagged, rows, strict=True)]
        write_text(folder / f"{split}.{CLOVA.suffix}", "".join(lines))


def word2vec(rows: Sequence[Sequence[str]], cfg: KoreanConfig) -> tuple[list[str], "numpy.ndarray"]:
    """Train vectors by skip-gram with negative sampling; words come most frequent first.

    Raises:
        ValueError: No word occurs often enough, or gensim is not installed.
    """
    try:
        gensim = import_module("gensim.models")
    except ModuleNotFoundError:
        raise ValueError("gensim is not installed; pip install -r requirements-glove.txt") from None
    model = gensim.Word2Vec(
        vector_size=cfg.word_dimension, min_count=cfg.word_count, epochs=cfg.word_epochs, window=cfg.word_window,
        seed=cfg.seed, sg=1, workers=1,
    )  # fmt: skip
    model.build_vocab(rows)
    if not model.wv.index_to_key:
        raise ValueError(f"--word_count {cfg.word_count}: no morpheme of the training rows occurs so often; lower it")
    model.train(rows, total_examples=model.corpus_count, epochs=model.epochs)
    return model.wv.index_to_key, model.wv.vectors


def word_pieces(rows: Sequence[Sequence[str]], size: int) -> dict[str, int]:
    """Learn a WordPiece vocabulary, special tokens and all characters first.

    Raises:
        ValueError: The characters alone do not fit.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    learned = Tokenizer(models.WordPiece(unk_token=SPECIAL[1]))
    learned.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    learned.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words = set(chain.from_iterable(rows))
    characters = sorted(set("".join(words)) - {" "})
    first = [*SPECIAL, *characters, *(f"##{character}" for character in characters)]
    if len(first) > size:
        raise ValueError(f"--pieces {size}: special tokens and characters alone are {len(first)}; raise it")
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=first, show_progress=False)
    learned.train_from_iterator((" ".join(row) for row in rows), trainer)
    return learned.get_vocab()


def write_encoder(rows: Sequence[Sequence[str]], cfg: KoreanConfig, folder: Path) -> None:
    """Write a BERT with random weights and its tokenizer, which keeps letters as they are, Hangul's parts too."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    pieces = word_pieces(rows, cfg.pieces)
    shape = BertConfig(
        vocab_size=len(pieces), hidden_size=cfg.width, num_hidden_layers=cfg.layers, num_attention_heads=cfg.heads,
        intermediate_size=4 * cfg.width, max_position_embeddings=cfg.positions, pad_token_id=pieces[SPECIAL[0]],
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        BertModel(shape).save_pretrained(folder)
    tokenizer = BertTokenizerFast(pieces, do_lower_case=False, strip_accents=False, model_max_length=cfg.positions)
    tokenizer.save_pretrained(folder)
