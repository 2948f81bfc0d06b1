"""Labels of texts by an exported model, with numpy, tokenizers and onnxruntime alone; a file to copy into a product.

    from lean import open_folder
    model = open_folder("export", "int8")
    for answer in model.answers([("a great film",), ("a dull one",)]):
        print(answer.label, answer.probabilities)

Texts are cut as in training: a pair is shortened at its longer half first. Products in int8 round by what is largest in
the whole batch, so that a text's logits would depend on its neighbours: int8 models read one text at a time.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

Run = Callable[[Mapping[str, NDArray[Any]]], NDArray[np.float32]]
"""What turns `input_ids`, `attention_mask` and `token_type_ids` (B, S) into logits (B, C)."""
FILES = {"onnx": "onnx/model.onnx", "int8": "onnx/model_int8.onnx"}
"""Where an export has its forms."""
MULTI, REGRESSION = "multi_label_classification", "regression"
BATCH = {"onnx": 32, "int8": 1}
"""Texts that a form reads at once."""
NO_LIMIT = 10**6
"""A tokenizer that names no length says a number beyond this."""


class About(NamedTuple):
    """What a model's folder says of it.

    Attributes:
        labels: Names of its outputs.
        kind: `single_label_classification`, `multi_label_classification` or `regression`.
        tokens: Tokens of an input at most.
        pad_id: Token id of padding.
        columns: Names of the texts of an input, one or two; none where the folder does not say.
    """

    labels: tuple[str, ...]
    kind: str
    tokens: int
    pad_id: int
    columns: tuple[str, ...]


class Answer(NamedTuple):
    """What a model says of a text: the likeliest label, all labels with `probabilities` of 0.5 and more, or a number.

    `probabilities` of labels that exclude each other add up to 1; a regression's is the number itself.
    """

    label: str
    probabilities: dict[str, float]


class Model:
    """A model that reads texts.

    Args:
        about: What its folder says.
        tokenizer: Cuts texts; it is told the model's length, and to leave padding to the batch.
        run: The network.
        batch: Texts that it reads at once.
        side: Where long texts are cut, `right` or `left`.
    """

    def __init__(self, about: About, tokenizer: Tokenizer, run: Run, batch: int = 32, side: str = "right") -> None:
        self.about, self.tokenizer, self.run, self.batch = about, tokenizer, run, batch
        tokenizer.no_padding()
        tokenizer.enable_truncation(about.tokens, strategy="longest_first", direction=side)

    def answers(self, texts: Sequence[tuple[str, ...]]) -> list[Answer]:
        """Answer every text, or pair of texts, in order."""
        return [answer(row, self.about) for row in self.logits(texts)]

    def logits(self, texts: Sequence[tuple[str, ...]]) -> NDArray[np.float32]:
        """Give logits (N, C) in order; texts of like length share a batch.

        Raises:
            ValueError: The model has more or fewer outputs than labels.
        """
        cut = self.tokenizer.encode_batch([text[0] if len(text) == 1 else text for text in texts])
        order = sorted(range(len(cut)), key=lambda row: len(cut[row].ids))
        found = np.empty((len(cut), len(self.about.labels)), np.float32)
        for at in range(0, len(order), self.batch):
            rows = order[at : at + self.batch]
            made = self.run(padded([(cut[row].ids, cut[row].type_ids) for row in rows], self.about.pad_id))
            if made.shape != found[rows].shape:
                raise ValueError(f"the model gives {made.shape[-1]} numbers a text; config.json names {found.shape[1]}")
            found[rows] = made
        return found


def padded(rows: Sequence[tuple[Sequence[int], Sequence[int]]], pad_id: int) -> dict[str, NDArray[np.int64]]:
    """Make inputs (B, S) of token ids and segment numbers, padded on the right to the longest."""
    shape = len(rows), max(1, max(len(ids) for ids, _ in rows))
    inputs = {"input_ids": np.full(shape, pad_id, np.int64)}
    inputs |= {name: np.zeros(shape, np.int64) for name in ("attention_mask", "token_type_ids")}
    for row, (ids, types) in enumerate(rows):
        inputs["input_ids"][row, : len(ids)] = ids
        inputs["attention_mask"][row, : len(ids)] = 1
        inputs["token_type_ids"][row, : len(ids)] = types
    return inputs


def answer(logits: NDArray[np.float32], about: About) -> Answer:
    """Turn the logits (C,) of a text into an answer."""
    values = logits.astype(np.float64)
    if about.kind == REGRESSION:
        return Answer(f"{values[0]:.4f}", {about.labels[0]: float(values[0])})
    if about.kind == MULTI:
        values = np.exp(-np.logaddexp(0, -values))
        names = [name for name, value in zip(about.labels, values, strict=True) if value >= 0.5]
        return Answer("|".join(names), dict(zip(about.labels, values.tolist(), strict=True)))
    values = np.exp(values - values.max())
    values /= values.sum()
    return Answer(about.labels[int(values.argmax())], dict(zip(about.labels, values.tolist(), strict=True)))


def open_folder(folder: str | Path, form: str = "onnx", threads: int = 0) -> Model:
    """Open an exported model in the form `onnx` or `int8`.

    Args:
        folder: Folder of the export.
        form: Its form.
        threads: Threads of the CPU, 0 for all cores.

    Raises:
        ValueError: Files that are damaged or do not fit together, or onnxruntime is not installed.
        FileNotFoundError: A file is not there.
    """
    folder = Path(folder)
    about, side = describe(folder)
    tokenizer = read_tokenizer(folder)
    run = open_network(folder / FILES[form], threads)
    return Model(about, tokenizer, run, BATCH[form], side)


def describe(folder: Path) -> tuple[About, str]:
    """Read what a folder says of its model, and the side on which its tokenizer cuts long texts.

    Raises:
        ValueError: It says too little, or what makes no sense.
        FileNotFoundError: `config.json` or `tokenizer_config.json` is not there.
    """
    config, words = read_object(folder / "config.json"), read_object(folder / "tokenizer_config.json")
    exported = read_object(folder / "export.json") if (folder / "export.json").is_file() else {}
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # the library's own names of two classes
    try:
        labels = tuple(str(names[str(number)]) for number in range(len(names)))
    except (KeyError, TypeError):
        raise ValueError(f"{folder / 'config.json'}: id2label must name the classes 0, 1, .., got {names!r}") from None
    lengths = [value for value in (words.get("model_max_length"), config.get("max_position_embeddings"))
               if isinstance(value, (int, float)) and 0 < value < NO_LIMIT]  # fmt: skip
    if not lengths:
        raise ValueError(f"{folder / 'tokenizer_config.json'}: model_max_length must say how many tokens fit")
    kind = config.get("problem_type") or (REGRESSION if len(labels) == 1 else "single_label_classification")
    columns = exported.get("text", [])
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns) or len(columns) > 2:
        raise ValueError(f"{folder / 'export.json'}: text must name one or two columns, got {columns!r}")
    pad_id = config.get("pad_token_id")
    about = About(labels, str(kind), int(min(lengths)), pad_id if isinstance(pad_id, int) else 0, tuple(columns))
    return about, "left" if words.get("truncation_side") == "left" else "right"


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read `tokenizer.json`.

    Raises:
        ValueError: It is damaged.
        FileNotFoundError: It is not there.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there; is {folder} an exported model?")
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more special
        raise ValueError(f"{file}: not a readable tokenizer: {error}") from None


def read_object(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: The file holds none.
        FileNotFoundError: It is not there.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there; is {file.parent} an exported model?")
    try:
        values = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not a JSON file: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{file}: expected one JSON object, got {type(values).__name__}")
    return values


def open_network(file: Path, threads: int = 0) -> Run:
    """Open an ONNX file on the CPU.

    Args:
        file: The file.
        threads: Threads, 0 for all cores.

    Raises:
        ValueError: It cannot be run, or onnxruntime is not installed.
        FileNotFoundError: It is not there.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ValueError("ONNX needs onnxruntime: pip install -r requirements-export.txt") from None
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Without it, sums in int8 saturate on CPUs that have no VNNI, and answers depend on the CPU.
    options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's errors have no common class
        raise ValueError(f"{file}: onnxruntime cannot run it: {' '.join(str(error).split())[:300]}") from None
    kinds = {given.name: np.float32 if "float" in given.type else np.int64 for given in session.get_inputs()}
    if unknown := kinds.keys() - {"input_ids", "attention_mask", "token_type_ids"}:
        raise ValueError(f"{file}: it wants {', '.join(sorted(unknown))}, which a classifier of texts has not")

    def run(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        given = {name: inputs[name].astype(kind, copy=False) for name, kind in kinds.items()}
        try:
            found: NDArray[np.float32] = session.run(None, given)[0]
        except Exception as error:  # say, a token for which it has no embedding
            raise ValueError(f"{file}: is the tokenizer its own? {' '.join(str(error).split())[:300]}") from None
        return found

    return run
