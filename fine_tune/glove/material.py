"""What a run of the GloVe document trains and on what: a network on word vectors, or a transformer."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from fine_tune.data.tokens import Split
from fine_tune.data.words import SPECIAL, word_tokenizer
from fine_tune.files import digest, first_line, read_json
from fine_tune.flags.parser import Flags
from fine_tune.glove.artefacts import name_of, own_name
from fine_tune.glove.config import NETWORKS, shape
from fine_tune.glove.encoded import MADE_FROM, as_split, read_features, read_ids
from fine_tune.glove.flags import EncoderConfig, RowsConfig, TrainConfig
from fine_tune.glove.preprocess import VOCABULARY
from fine_tune.glove.rows import numbered_lines, read_labels, read_rows
from fine_tune.glove.start import Material
from fine_tune.glove.teacher import encoder_tokenizer, made_from
from fine_tune.model.checkpoint import fill, load_state
from fine_tune.model.classifier import Classifier
from fine_tune.model.encoder import pretrained_encoder
from fine_tune.model.load import check_length, check_tokenizer
from fine_tune.model.words import WordConfig, WordEncoder
from fine_tune.tasks.table import Task

WORDS, ENCODER = (
    "python preprocess.py --config={config} --data_dir={folder}{augmented}",
    "--bert_model_name_or_path={name}",
)


def task_of(folder: Path, names: list[str]) -> Task:
    """Give a folder of rows as a task, for what asks for its classes."""
    name = re.sub(r"[^a-z0-9]", "", folder.resolve().name.lower()) or "rows"
    return Task(name, str(folder), ("sentence",), "label", tuple(names))


def read_vocabulary(file: Path) -> list[str]:
    """Read `vocab.txt`: its words without those that have rows of their own.

    Raises:
        ValueError: `file:line: reason`.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there; make it with: python preprocess.py")
    words: list[str] = []
    for number, line in numbered_lines(file):
        word, _, index = line.rpartition(" ")
        expected = SPECIAL[len(words)] if len(words) < len(SPECIAL) else word
        if index != str(len(words)) or not word or word != expected:
            raise ValueError(f"{file}:{number}: expected a word and {len(words)}, got {line!r}; preprocess anew")
        words.append(word)
    if len(set(words)) < len(words) or len(words) < len(SPECIAL):
        raise ValueError(f"{file}: a word is missing, or there twice; preprocess anew")
    return words[len(SPECIAL) :]


def read_vectors_file(file: Path, words: int) -> np.ndarray[Any, Any]:
    """Read `embedding.npy`: (V, E) float32.

    Raises:
        ValueError: It is not the vectors of the vocabulary.
    """
    try:
        matrix: np.ndarray[Any, Any] = np.load(file, allow_pickle=False)
    except Exception as error:  # damaged bytes raise half a dozen types
        raise ValueError(f"{file}: no array of vectors ({first_line(error)}); preprocess anew") from None
    if matrix.ndim != 2 or len(matrix) != words or matrix.dtype != np.float32 or not np.isfinite(matrix).all():
        raise ValueError(f"{file}: not the vectors of {words} words, finite float32; preprocess anew")
    return matrix


def word_rows(cfg: RowsConfig, file: str, config: Mapping[str, Any], names: list[str], words: int) -> Split:
    """Read the ids of a file, made with the vocabulary and the vectors that are there.

    Raises:
        ValueError: They are not.
    """
    ids = cfg.folder / f"{file}.ids"
    arrays = read_ids(ids, len(names), words, config["n_ctx"])
    kept = read_json(cfg.folder / MADE_FROM) if (cfg.folder / MADE_FROM).is_file() else {}
    if kept.get(ids.name) != digest(ids)[:16] or kept.get("classes") != names:
        raise ValueError(f"{ids}: was not made with the vocabulary that is there now; preprocess anew")
    if kept.get("lowercase", config["lowercase"]) != config["lowercase"]:
        raise ValueError(f"{ids}: was made with lowercase {kept['lowercase']}, not as --config says; preprocess anew")
    text = cfg.folder / file
    if text.is_file() and kept.get(file, now := digest(text)[:16]) != now:
        raise ValueError(f"{ids}: was made from other rows than {text} has now; preprocess anew")
    return as_split(arrays, task_of(cfg.folder, names), file, 0, config["n_ctx"], digest(ids)[:16])


def word_material(flags: Flags, config: Mapping[str, Any]) -> Material:
    """Read what a network on word vectors is trained on, and build it.

    Raises:
        ValueError: Files that do not fit together.
        FileNotFoundError: Files that are not there.
    """
    cfg, own = flags[RowsConfig], flags[TrainConfig]
    names = read_labels(cfg.folder / cfg.label_filename)
    words = read_vocabulary(cfg.folder / VOCABULARY)
    matrix = read_vectors_file(cfg.folder / own.embedding_filename, len(words) + len(SPECIAL))
    rows = {
        name: word_rows(cfg, name, config, names, len(matrix))
        for name in dict.fromkeys((cfg.train_file(), "valid.txt"))
    }
    torch.manual_seed(own.seed)
    model = word_classifier(config, matrix, len(names), own.embedding_trainable)
    facts = {"network": config, "vectors": digest(cfg.folder / own.embedding_filename)[:16]}
    facts |= {f"rows of {name}": split.key for name, split in rows.items()}
    tokenizer = word_tokenizer(words, config["lowercase"], config["n_ctx"])
    train, valid = rows[cfg.train_file()], rows["valid.txt"]
    return Material(model, tokenizer, train, gold(valid), train.task, NETWORKS[config["enc_class"]], facts)


def word_classifier(
    config: Mapping[str, Any], matrix: np.ndarray[Any, Any], num_class: int, trainable: bool
) -> Classifier:
    """Build a network on word vectors (V, E), with random weights."""
    made = WordConfig(vocab_size=len(matrix), embedding_size=matrix.shape[1], trainable=trainable, **shape(config))
    encoder = WordEncoder(made)
    encoder.words.weight.data.copy_(torch.from_numpy(matrix))
    return Classifier(encoder, num_class, config["dropout"])


def gold(valid: Split) -> Split:
    """Check that rows to validate with have gold labels.

    Raises:
        ValueError: They have logits.
    """
    if valid.label is None or valid.label.ndim != 1:
        raise ValueError(f"{valid.name}: validation needs gold labels, not logits")
    return valid


def encoder_material(flags: Flags, config: Mapping[str, Any]) -> Material:
    """Read what a transformer is trained on, and put a fresh classifier on it.

    Raises:
        ValueError: Files that do not fit together, or an encoder of another class.
        FileNotFoundError: Files that are not there.
    """
    cfg, own, source = flags[RowsConfig], flags[TrainConfig], flags[EncoderConfig]
    names = read_labels(cfg.folder / cfg.label_filename)
    tokenizer, teacher = encoder_tokenizer(source), name_of(source.bert_model_name_or_path)
    splits = {}
    for name in dict.fromkeys((cfg.train_file(), "valid.txt")):
        splits[name] = encoder_rows(cfg, name, config, names, tokenizer, teacher, source.bert_model_name_or_path)
    train = splits[cfg.train_file()]
    if train.label is None:
        raise ValueError(f"{cfg.folder / train.name}: its rows have no labels; evaluate.py --augmented makes some")
    torch.manual_seed(own.seed)
    encoder = pretrained_encoder(source.bert_model_name_or_path, flag="--bert_model_name_or_path")
    kind = encoder.config.model_type
    if kind != config["emb_class"]:
        raise ValueError(
            f"--config {cfg.config}: is of a {config['emb_class']}, but {source.bert_model_name_or_path} is a {kind}"
        )
    remove_layers(encoder, own.bert_remove_layers)
    encoder.requires_grad_(not own.bert_use_feature_based)
    model = Classifier(encoder, len(names), config["dropout"])
    check_length(model, config["n_ctx"])
    check_tokenizer(model, tokenizer, source.bert_model_name_or_path)
    facts = {"network": config, "teacher": teacher}
    facts |= {f"rows of {name}": split.key for name, split in splits.items()}
    return Material(model, tokenizer, train, gold(splits["valid.txt"]), train.task, kind, facts)


def encoder_rows(
    cfg: RowsConfig, name: str, config: Mapping[str, Any], names: list[str], tokenizer: Any, teacher: str, source: str
) -> Split:
    """Read the features of a file, made by the tokenizer of a transformer from the rows that are there now.

    Raises:
        ValueError: They are not.
        FileNotFoundError: There are none.
    """
    rows = read_rows(cfg.folder / name)
    augmented = "" if name in ("train.txt", "valid.txt", "test.txt") else f" --augmented --augmented_filename={name}"
    make = WORDS.format(config=cfg.config, folder=cfg.folder, augmented=augmented) + f" {ENCODER.format(name=source)}"
    about = made_from(rows, tokenizer, config["n_ctx"], names)
    arrays = read_features(own_name(cfg.folder / f"{name}.fs", teacher), about, make)
    return as_split(
        arrays, task_of(cfg.folder, names), name, tokenizer.pad_token_id, config["n_ctx"], f"{name} {about}"
    )


def remove_layers(encoder: PreTrainedModel, layers: str) -> None:
    """Remove layers of an encoder, 0-based numbers with commas between them.

    Raises:
        ValueError: There are no such layers, or none would be left.
    """
    if not layers:
        return
    found = getattr(getattr(encoder, "encoder", None), "layer", None)
    words = [word.strip() for word in layers.split(",")]
    count = len(found) if isinstance(found, nn.ModuleList) else 0
    if not all(word.isdecimal() and int(word) < count for word in words) or len(set(words)) >= count:
        raise ValueError(f"--bert_remove_layers {layers}: give some of the 0-based layers 0..{count - 1}")
    assert found is not None
    kept = [layer for number, layer in enumerate(found) if str(number) not in words]
    encoder.encoder.layer = nn.ModuleList(kept)
    encoder.config.num_hidden_layers = len(kept)


def name_of_run(flags: Flags, config: Mapping[str, Any]) -> str:
    """Name a run: after its transformer, or its network and its rows."""
    if config["emb_class"] != "glove":
        return name_of(flags[EncoderConfig].bert_model_name_or_path)
    return f"{NETWORKS[config['enc_class']]}-{Path(flags[RowsConfig].train_file()).stem}"


def export_encoder(best: Path, material: Material, folder: Path) -> None:
    """Write the best encoder and its tokenizer for the library's `from_pretrained`."""
    model = material.model
    fill(model, load_state(best), best)
    model.encoder.save_pretrained(folder)
    material.tokenizer.save_pretrained(folder)
