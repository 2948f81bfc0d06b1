"""Score a model of the GloVe document, time it, label rows with it.

Departures from the document's code: padding to the longest row of a batch; times are the model's alone, the first batch
is left out of the mean wherever there is a second; no accuracy is told of rows without gold labels.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from fine_tune.data.tokens import Inputs, Split
from fine_tune.data.words import SPECIAL, word_tokenizer
from fine_tune.export import lean, onnx
from fine_tune.files import digest, write_whole
from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import PrecisionConfig
from fine_tune.glove.artefacts import own_name, point
from fine_tune.glove.config import is_glove, shape
from fine_tune.glove.encoded import as_split, encode, read_features
from fine_tune.glove.flags import OutputConfig, RowsConfig, ScoreConfig
from fine_tune.glove.material import ENCODER, WORDS, read_vocabulary, task_of, word_rows
from fine_tune.glove.preprocess import VOCABULARY
from fine_tune.glove.rows import Rows, logit_words, read_labels, read_rows
from fine_tune.glove.start import device_of
from fine_tune.glove.teacher import load_taught, made_from
from fine_tune.hardware.device import to_device
from fine_tune.hardware.precision import resolve_precision
from fine_tune.model.checkpoint import fill, load_state
from fine_tune.model.classifier import Classifier
from fine_tune.model.load import Loaded, build_for
from fine_tune.model.placement import place
from fine_tune.model.words import WordConfig, WordEncoder
from fine_tune.run.outputs import Subject as Reader
from fine_tune.run.outputs import outputs
from fine_tune.run.process import set_up_process

TEST, AUGMENTED = "test.txt", "augmented.raw"


class Subject(NamedTuple):
    """A model, the rows that it is to read, and how.

    Attributes:
        flags: The flags.
        config: What `--config` says.
        model: The model, in its place.
        device: Its place.
        names: The classes of the rows.
        order: Which of the model's classes each of them is.
        rows: The rows as text.
        split: The same as ids.
        tokenizer: Cuts text for the model.
        loaded: The transformer with what belongs to it; None for a network on word vectors.
        teacher: Its name.
    """

    flags: Flags
    config: Mapping[str, Any]
    model: Classifier
    device: torch.device
    names: list[str]
    order: list[int]
    rows: Rows
    split: Split
    tokenizer: PreTrainedTokenizerFast
    loaded: Loaded | None = None
    teacher: str = ""


def open_model(flags: Flags, config: Mapping[str, Any]) -> Subject:
    """Read the model and its rows.

    Raises:
        ValueError: Files that do not fit together.
        FileNotFoundError: Files that are not there.
    """
    cfg, own = flags[RowsConfig], flags[ScoreConfig]
    device = device_of(own.device)
    set_up_process(device=device)
    if own.num_threads:
        torch.set_num_threads(own.num_threads)
    names = read_labels(cfg.folder / cfg.label_filename)
    open_one = open_network if is_glove(config) else open_encoder
    subject = open_one(flags, config, names, device)
    model = subject.model.eval().requires_grad_(False)
    if own.enable_dqm:
        if device.type != "cpu":
            raise ValueError(f"--enable_dqm: int8 is for CPUs, the model is on {device}; add --device cpu")
        torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
    else:
        precision = resolve_precision(None, own.use_amp, device)
        place(model, device, Flags({PrecisionConfig: PrecisionConfig(precision=precision)}))
    return subject


def open_network(flags: Flags, config: Mapping[str, Any], names: list[str], device: torch.device) -> Subject:
    """Read a network on word vectors from its state dict; its sizes stand in `--config` and in the weights."""
    cfg, file = flags[RowsConfig], Path(flags[ScoreConfig].model_path)
    if not file.is_file():
        raise FileNotFoundError(f"--model_path {file}: is not there; train.py --save_path={file} makes it")
    state = load_state(file)
    vectors = state.get("encoder.words.weight", torch.empty(0))
    if vectors.ndim != 2:
        raise ValueError(f"--model_path {file}: no network on word vectors; is --config {cfg.config} right?")
    words, width = vectors.shape
    vocabulary = read_vocabulary(cfg.folder / VOCABULARY)
    if words != len(vocabulary) + len(SPECIAL):
        raise ValueError(
            f"--model_path {file}: knows {words} words, {cfg.folder / VOCABULARY} {len(vocabulary) + len(SPECIAL)}; "
            "preprocess as it was when the model was trained"
        )
    made = WordConfig(vocab_size=words, embedding_size=width, **shape(config))
    model = build_for(state, file, lambda: Classifier(WordEncoder(made), len(names), config["dropout"]))
    tokenizer = word_tokenizer(vocabulary, config["lowercase"], config["n_ctx"])
    rows, split = read_rows(cfg.folder / TEST), word_rows(cfg, TEST, config, names, words)
    return Subject(flags, config, model, device, names, list(range(len(names))), rows, split, tokenizer)


def open_encoder(flags: Flags, config: Mapping[str, Any], names: list[str], device: torch.device) -> Subject:
    """Read a fine-tuned transformer."""
    cfg, own = flags[RowsConfig], flags[ScoreConfig]
    folder = Path(flags[OutputConfig].bert_output_dir)
    taught = load_taught(folder, config["emb_class"], names)
    loaded = taught.loaded
    weights = ""
    if own.model_path != ScoreConfig().model_path:
        fill(loaded.model, load_state(Path(own.model_path)), Path(own.model_path))
        weights = digest(Path(own.model_path))  # the key of a cache of what it says
    name = (cfg.augmented_filename or AUGMENTED) if cfg.augmented else TEST
    rows = read_rows(cfg.folder / name)
    make = WORDS.format(config=cfg.config, folder=cfg.folder, augmented=" --augmented" * cfg.augmented)
    about = made_from(rows, loaded.tokenizer, config["n_ctx"], names)
    file = own_name(cfg.folder / f"{name}.fs", taught.name)
    arrays = read_features(file, about, f"{make} {ENCODER.format(name=f'<that of {taught.name}>')}")
    arrays.setdefault("label", np.zeros(len(rows.texts), np.int64))  # nothing reads them
    split = as_split(
        arrays,
        task_of(cfg.folder, names),
        name,
        loaded.tokenizer.pad_token_id,
        config["n_ctx"],
        f"{name} {about}{weights}",
    )
    return Subject(
        flags, config, loaded.model, device, names, taught.order, rows, split, loaded.tokenizer, loaded, taught.name
    )


def score_rows(subject: Subject) -> None:
    """Score batch after batch in the order of the file, write `test.txt.pred`, tell accuracy and time."""
    own = subject.flags[ScoreConfig]
    count = min(own.num_examples or len(subject.split), len(subject.split))
    batches = [np.arange(at, min(at + own.batch_size, count)) for at in range(0, count, own.batch_size)]
    classify = classifier_of(subject)
    logits, times = timed(classify, (subject.split.inputs(rows) for rows in batches), len(batches))
    tell(subject, np.concatenate(logits)[:, subject.order], ".pred", times, own.batch_size)


def score_lines(subject: Subject) -> None:
    """Score line after line as text, tokenised one at a time, write `test.txt.inference`, tell accuracy and time."""
    own = subject.flags[ScoreConfig]
    texts = subject.rows.texts[: own.num_examples or None]
    run = classifier_of(subject)
    one = [Rows(subject.rows.file, [text], []) for text in texts]

    def classify(row: Rows) -> NDArray[np.float32]:
        ids, types = next(encode(row, subject.tokenizer, subject.config["n_ctx"]))
        return run({
            "input_ids": torch.tensor([ids]), "attention_mask": None, "token_type_ids": torch.tensor([types]),
        })  # fmt: skip

    logits, times = timed(classify, one, len(one))
    tell(subject, np.concatenate(logits)[:, subject.order], ".inference", times, 1)


def classifier_of(subject: Subject) -> Callable[[Inputs], NDArray[np.float32]]:
    """Give what turns inputs into logits (B, C): the model, or its ONNX form."""
    own = subject.flags[ScoreConfig]
    if own.enable_ort:
        return onnx_session(subject)
    model, device = subject.model, subject.device

    @torch.inference_mode()
    def classify(inputs: Inputs) -> NDArray[np.float32]:
        found: NDArray[np.float32] = model(**to_device(inputs, device)).logits.cpu().numpy()
        return found

    return classify


def timed(
    classify: Callable[[Any], NDArray[np.float32]], batches: Iterable[Any], count: int
) -> tuple[list[NDArray[np.float32]], list[float]]:
    """Classify batches; give their logits, and the seconds of each. Reading the logits waits for a GPU."""
    logits: list[NDArray[np.float32]] = []
    times: list[float] = []
    for batch in tqdm(batches, total=count, unit="batch", dynamic_ncols=True, mininterval=1):
        start = time.perf_counter()
        logits.append(classify(batch))
        times.append(time.perf_counter() - start)
    return logits, times


def tell(subject: Subject, logits: NDArray[np.float32], suffix: str, times: list[float], batch_size: int) -> None:
    """Write predictions; log accuracy and times in the document's three lines.

    The times are whole and mean, then both without the first batch.
    """
    write_predictions(subject, logits.argmax(-1), suffix)
    log = logging.getLogger("__main__")
    log.propagate, handler = False, logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
    log.handlers, log.level = [handler], logging.INFO
    label = [subject.names.index(name) if name in subject.names else -1 for name in subject.rows.labels[: len(logits)]]
    right, count = int((logits.argmax(-1) == np.array(label)).sum()), len(logits)
    log.info("[Accuracy] : %.4f, %5d/%5d", right / count, right, count)
    whole, later = 1000 * sum(times), 1000 * sum(times[1:])
    rows = count - min(batch_size, count)
    mean = later / rows if rows else whole / count
    log.info("[Elapsed Time] : %sms, %sms on average", whole, mean)
    log.info("[Elapsed Time(total_duration_time, average)] : %sms, %sms", later, mean)


def write_predictions(subject: Subject, predicted: NDArray[np.int64], suffix: str) -> None:
    """Write `sentence<TAB>gold<TAB>predicted` beside the rows."""
    file = subject.rows.file.with_name(subject.rows.file.name + suffix)
    lines = (
        "\t".join((*text, label, subject.names[number]))
        for text, label, number in zip(subject.rows.texts, subject.rows.labels, predicted, strict=False)
    )
    write_whole(file, lambda part: write_lines(part, lines))


def write_lines(part: Path, lines: Iterable[str]) -> None:
    """Write lines, one at a time."""
    with part.open("w", encoding="utf-8", newline="\n") as handle:
        handle.writelines(f"{line}\n" for line in lines)


def label_rows(subject: Subject) -> None:
    """Have a transformer label the augmented rows: `augmented.raw.<teacher>.pred`; `augmented.raw.pred` points to it.

    The logits are made in batches of one length, into the cache: killed, the same command goes on.
    """
    cfg, own = subject.flags[RowsConfig], subject.flags[ScoreConfig]
    assert subject.loaded
    store = outputs(Reader(subject.loaded, subject.split, subject.device, own.batch_size), "logits")
    logits = np.load(store.folder / "logits.npy", mmap_mode="r")
    count = own.num_examples or len(logits)
    name = cfg.augmented_filename or AUGMENTED
    file, kept = own_name(cfg.folder / f"{name}.pred", subject.teacher), 0

    def lines() -> Iterable[str]:
        nonlocal kept
        for text, row in zip(subject.rows.texts[:count], logits, strict=False):
            said = np.array(row)[subject.order]
            if own.entropy_threshold is not None and entropy(said) > own.entropy_threshold:
                continue
            kept += 1
            label = subject.names[int(said.argmax())] if own.hard_labeling else logit_words(said)
            yield "\t".join((*text, label))

    write_whole(file, lambda part: write_lines(part, lines()))
    point(cfg.folder / f"{name}.pred", file)
    print(f"wrote: {file} ({kept} rows), and {name}.pred points to it")


def entropy(logits: NDArray[np.float32]) -> float:
    """Entropy of the class distribution, in bits."""
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    return float(-(shares * np.log2(np.maximum(shares, 1e-30))).sum())


def write_onnx(subject: Subject) -> None:
    """Write the model as ONNX, of any number of rows and tokens."""
    own = subject.flags[ScoreConfig]
    onnx.write_onnx(subject.model, Path(own.onnx_path), own.onnx_opset)
    print(f"wrote: {own.onnx_path}")


def onnx_session(subject: Subject) -> Callable[[Inputs], NDArray[np.float32]]:
    """Give what turns inputs into logits (B, C) by the ONNX model.

    Raises:
        FileNotFoundError: It is not there.
    """
    onnx.needs("onnxruntime")
    own = subject.flags[ScoreConfig]
    if not Path(own.onnx_path).is_file():
        raise FileNotFoundError(f"--onnx_path {own.onnx_path}: is not there; --convert_onnx writes it")
    return partial(onnx.classify, lean.open_network(Path(own.onnx_path), own.num_threads))
