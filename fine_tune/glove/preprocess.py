"""From rows to token ids: for networks on word vectors, and for transformers."""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fine_tune.data.words import SPECIAL, split_words, word_tokenizer
from fine_tune.files import digest, read_json, write_json, write_text, write_whole
from fine_tune.flags.parser import Flags
from fine_tune.glove.artefacts import name_of, own_name, point
from fine_tune.glove.encoded import MADE_FROM, write_features, write_ids
from fine_tune.glove.flags import EncoderConfig, RowsConfig, VectorsConfig
from fine_tune.glove.rows import Rows, is_soft, label_names, read_rows, targets, write_labels
from fine_tune.glove.teacher import encoder_tokenizer, made_from
from fine_tune.glove.vectors import matrix_for, read_vectors
from fine_tune.path import expanded
from fine_tune.run.preflight import LEAK, UNKNOWN, USUAL_LEAK

logger = logging.getLogger(__name__)

SCORED = ("valid.txt", "test.txt")
VOCABULARY, VECTORS = "vocab.txt", "embedding.npy"
AUGMENT = "python augment_data.py --input {folder}/train.txt --output {folder}/{name}"
LABEL = "python evaluate.py --config=<the teacher's> --augmented, then cp {folder}/augmented.raw.pred {folder}/{name}"


def read_all(cfg: RowsConfig, train: str, make: str) -> tuple[list[str], dict[str, Rows]]:
    """Read the rows to train on, and those to score; name the classes after train.txt, and write them.

    Args:
        cfg: Folder, and whether augmented rows are wanted.
        train: File of the rows to train on.
        make: Command that makes it.

    Returns:
        The classes, and the rows by file name.
    """
    gold = read_rows(cfg.folder / "train.txt")
    rows = {train: gold if train == "train.txt" else read_rows(cfg.folder / train, make)}
    rows |= {name: read_rows(cfg.folder / name) for name in SCORED}
    names = label_names(gold)
    check_apart(gold, [rows[name] for name in SCORED])
    write_labels(cfg.folder / cfg.label_filename, names)
    return names, rows


def check_apart(gold: Rows, scored: Sequence[Rows]) -> None:
    """Refuse rows to score of which most are among those to train on; warn of some.

    Raises:
        ValueError: With their share.
    """
    known = set(gold.texts)
    for rows in scored:
        share = np.mean([text in known for text in rows.texts])
        what = f"{rows.file}: {share:.0%} of its rows are among those of {gold.file.name}, which are trained on"
        if share > LEAK:
            raise ValueError(f"{what}: a score on them would mean nothing; is the data right?")
        if share > USUAL_LEAK:
            logger.warning("%s", what)


def for_words(flags: Flags, config: Mapping[str, Any]) -> None:
    """Write `.ids` of the rows to train on and to score, the words that they have, and the vectors of these.

    Raises:
        ValueError: A row or a vector cannot be used.
        OSError: A file is not there.
    """
    cfg, vectors = flags[RowsConfig], flags[VectorsConfig]
    train = cfg.train_file()
    names, all_rows = read_all(cfg, train, LABEL.format(folder=cfg.folder, name=train))
    lower, n_ctx = config["lowercase"], config["n_ctx"]
    for rows in all_rows.values():
        if len(rows.texts[0]) > 1:
            raise ValueError(f"{rows.file}: pairs of texts; networks on word vectors read single ones")
    by_file = {
        name: Counter(word for (text,) in rows.texts for word in split_words(text, lower))
        for name, rows in all_rows.items()
    }
    counts = sum(by_file.values(), Counter[str]())
    found = read_vectors(expanded(vectors.embedding_path), counts.keys() - set(SPECIAL))
    if found.dimension != config["token_emb_dim"]:
        logger.info(
            "%s has %d dimensions, not the %d of --config: the network follows it",
            vectors.embedding_path, found.dimension, config["token_emb_dim"],
        )  # fmt: skip
    tokenizer = word_tokenizer(found.words, lower, n_ctx)
    known = sum(counts[word] for word in found.words)
    logger.info(
        "%d different words, %d in all; the vectors know %d of them, %.2f %% of the text",
        len(counts), counts.total(), len(found.words), 100 * known / counts.total(),
    )  # fmt: skip
    text = by_file[train]
    if (share := 1 - sum(text[word] for word in (*found.words, *SPECIAL)) / text.total()) > UNKNOWN:
        raise ValueError(
            f"{vectors.embedding_path}: {share:.0%} of the words of {train} have no vector; are the vectors of its "
            "language, and lower-cased as --config says?"
        )
    matrix = matrix_for(found.words, found, vectors.seed)
    write_whole(cfg.folder / VECTORS, lambda part: save_array(part, matrix))
    words = [*SPECIAL, *found.words]
    write_text(cfg.folder / VOCABULARY, "".join(f"{word} {number}\n" for number, word in enumerate(words)))
    about = {name: digest(cfg.folder / name)[:16] for name in (VOCABULARY, VECTORS)}
    beside = cfg.folder / MADE_FROM
    kept = read_json(beside) if beside.is_file() else {}
    kept = kept if {name: kept.get(name) for name in about} == about else {}  # ids of other vectors are void
    for name, rows in all_rows.items():
        # Logits are copied as they are written.
        found_labels = targets(rows.file, rows.labels, names)
        labels: list[object] = list(rows.labels) if is_soft(rows.labels) else list(found_labels)
        unknown = write_ids(cfg.folder / f"{name}.ids", rows, labels, tokenizer, n_ctx)
        lengths = [len(text.split()) for (text,) in rows.texts]
        logger.info(
            "%s: %d rows, %s labels; words a row: mean %.1f, median %d, %d to %d, %d rows cut at %d; %d unknown words",
            name, len(lengths), "soft" if is_soft(rows.labels) else "hard", np.mean(lengths), np.median(lengths),
            min(lengths), max(lengths), sum(length > n_ctx for length in lengths), n_ctx, unknown,
        )  # fmt: skip
        kept |= {made: digest(cfg.folder / made)[:16] for made in (name, f"{name}.ids")}
    write_json(beside, {**kept, **about, "n_ctx": n_ctx, "lowercase": lower, "classes": names})


def save_array(part: Path, matrix: Any) -> None:
    """Write an array to a file of any name."""
    with part.open("wb") as handle:
        np.save(handle, matrix)


def for_encoder(flags: Flags, config: Mapping[str, Any]) -> None:
    """Write `.fs` of the rows to train on, or of the augmented ones, and of those to score, under the encoder's name.

    Raises:
        ValueError: A row cannot be used, or there is no such tokenizer.
        OSError: A file is not there.
    """
    cfg, encoder = flags[RowsConfig], flags[EncoderConfig]
    train = cfg.train_file("augmented.raw")
    names, all_rows = read_all(cfg, train, AUGMENT.format(folder=cfg.folder, name=train))
    tokenizer, teacher = encoder_tokenizer(encoder), name_of(encoder.bert_model_name_or_path)
    for name, rows in all_rows.items():
        file = own_name(cfg.folder / f"{name}.fs", teacher)
        about = made_from(rows, tokenizer, config["n_ctx"], names)
        if has_made_from(file, about):
            logger.info("%s: already there", file)
        else:
            unlabelled = rows.labels[0] not in names and not is_soft(rows.labels)
            label = None if unlabelled and name == train else targets(rows.file, rows.labels, names)
            write_features(file, rows, label, tokenizer, config["n_ctx"], about)
            logger.info("%s: %d rows", file, len(rows.texts))
        point(cfg.folder / f"{name}.fs", file)


def has_made_from(file: Path, about: str) -> bool:
    """Whether a file of features is there, whole, and made from the same things."""
    import torch

    try:
        return bool(json.loads(torch.load(file, mmap=True, weights_only=True)["about"]) == json.loads(about))
    except Exception:  # not there, or damaged in one of many ways: it is made anew
        return False
