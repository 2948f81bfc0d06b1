"""Tiny classifiers of every family as transformers saves them, and the table of what can be distilled from them.

`python tests/families.py` rewrites the table in doc/teachers.md; test_families trains every cell of it.
"""

import string
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from conftest import SIZES, VOCABULARY
from tokenizers import Tokenizer, models, pre_tokenizers, processors

PAGE = Path(__file__).resolve().parent.parent / "doc/teachers.md"
MARKS = ("<s>", "<pad>", "</s>", "<unk>")
PIECES = [*MARKS, "\u2581", *("\u2581" + word for word in VOCABULARY[5:]), *string.ascii_lowercase]


class Tiny(NamedTuple):
    """A family's tiny configuration, and whether its tokenizer is of XLM-R's kind, where padding is token 1."""

    name: str
    config: type[transformers.PreTrainedConfig]
    settings: dict[str, Any] = {}
    pieces: bool = False


DISTANCES = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0}
V3 = DISTANCES | {"position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True}
TINY = {
    "bert": Tiny("BERT", transformers.BertConfig),
    "albert": Tiny("ALBERT", transformers.AlbertConfig, {"embedding_size": 8, "pad_token_id": 0}),
    "roberta": Tiny("RoBERTa", transformers.RobertaConfig, {"type_vocab_size": 1}, True),
    "xlm-roberta": Tiny("XLM-R", transformers.XLMRobertaConfig, {"type_vocab_size": 1}, True),
    "electra": Tiny("ELECTRA", transformers.ElectraConfig, {"embedding_size": 16}),
    "distilbert": Tiny("DistilBERT", transformers.DistilBertConfig),
    "mpnet": Tiny("MPNet", transformers.MPNetConfig, {}, True),
    "deberta": Tiny("DeBERTa v1", transformers.DebertaConfig, DISTANCES),
    "deberta-v2": Tiny("DeBERTa v2, v3", transformers.DebertaV2Config, V3 | {"position_biased_input": False}),
}


def tiny_config(kind: str, classes: int = 2, **settings: Any) -> transformers.PreTrainedConfig:
    """Configure a family's tiny classifier."""
    tiny = TINY[kind]
    sizes: dict[str, Any] = dict(SIZES)
    if kind == "distilbert":
        sizes = {
            "vocab_size": sizes["vocab_size"], "dim": 16, "n_layers": 4, "n_heads": 2, "hidden_dim": 32,
            "max_position_embeddings": 64,
        }  # fmt: skip
    if tiny.pieces:
        sizes |= {"vocab_size": len(PIECES), "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    return tiny.config(**sizes | tiny.settings, num_labels=classes, **settings)


def tiny_classifier(config: transformers.PreTrainedConfig) -> transformers.PreTrainedModel:
    """Make a classifier whose answers differ from row to row."""
    torch.manual_seed(1)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    for weights in model.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=0.3)
    return model


def save_tokenizer(kind: str, folder: Path) -> None:
    """Save the tokenizer of a family's kind."""
    if not TINY[kind].pieces:
        (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
        transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
        return
    scores = {**dict.fromkeys(MARKS, 0.0), **dict.fromkeys(string.ascii_lowercase, -6.0), "\u2581": -6.0}
    raw = Tokenizer(models.Unigram([(piece, scores.get(piece, -2.0)) for piece in PIECES], unk_id=3))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    marks = dict(zip(("cls_token", "pad_token", "sep_token", "unk_token"), MARKS, strict=True))
    transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **marks).save_pretrained(folder)


def save_classifier(kind: str, folder: Path, classes: int = 2, **settings: Any) -> Path:
    """Save a family's tiny classifier with its tokenizer."""
    folder.mkdir(parents=True)
    tiny_classifier(tiny_config(kind, classes, **settings)).save_pretrained(folder)
    save_tokenizer(kind, folder)
    return folder


METHODS = {"KD": "run_kd_distil", "PKD": "run_pkd_distill", "LAD": "run_lad_distil", "ALP-KD": "run_alp_distil"}
OWN, BERT = "own family", "BERT"
COPIES, RANDOM = "trains; layers copied", "trains from a random start; `--student_init even` is refused: {why}"
EMPTY = {
    ("albert", BERT): "its one layer is no BERT's",
    ("albert", OWN): "an ALBERT's layers share one set of weights",
    ("mpnet", BERT): "its layers look at distances, too",
    ("deberta", BERT): "its layers look at distances, too",
    ("deberta-v2", BERT): "its layers look at distances, too",
}
"""Teacher and student of which no layers are copied, and why."""


def architecture(kind: str, student: str) -> str:
    """Name the student's family, as `--model` does."""
    return kind if student == OWN else "bert"


def table() -> str:
    """Write the table of the page: a row per teacher, a column per student."""
    lines = [f"| teacher | `--model bert` | `--model` {OWN} |", "|---|---|---|"]
    for kind, tiny in TINY.items():
        cells = [
            RANDOM.format(why=EMPTY[kind, student]) if (kind, student) in EMPTY else COPIES for student in (BERT, OWN)
        ]
        lines.append(f"| {tiny.name} (`{kind}`) | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """Put the table into a page, in place of the one that is there."""
    lines = page.splitlines(keepends=True)
    rows = [number for number, line in enumerate(lines) if line.startswith("| teacher |")]
    start = rows[0]
    end = next(number for number in range(start, len(lines) + 1) if number == len(lines) or lines[number][0] != "|")
    return "".join([*lines[:start], table(), *lines[end:]])


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
