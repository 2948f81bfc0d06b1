"""The table of tasks: files, columns, labels, metrics. A new task is a new row here; a user's own is made in `own`."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from fine_tune.path import distilled_file, task_dir

NLI = ("entailment", "neutral", "contradiction")
PAIR_NLI = ("entailment", "not_entailment")
BINARY = ("0", "1")
POLARITY = ("negative", "positive")
MNLI_SPLITS = ("train", "dev_matched", "dev_mismatched", "test_matched", "test_mismatched")
SLICES = ("train_fit", "train_select")
"""Slices of the training rows, drawn row by row: 95 % to train on, and 5 %, always the same, to choose by."""
AUGMENTED = "augmented"
"""Changed copies of the training rows, without labels, which `build_augmented.py` writes."""


@dataclass(frozen=True)
class Task:
    """One row of the table.

    Attributes:
        name: Lower-case name on the command line, of letters and digits: run folders end with it, after a `_`.
        folder: Folder of its files, under `data/fine_tune` and in GLUE's archive.
        text: Column(s) with the sentence or the pair.
        label: Column with the gold label.
        labels: Label strings in class order; empty for regression.
        names: What the classes are called to people, where the label strings of the files are numbers.
        metrics: What is reported, the deciding one first.
        submission: File name of test predictions for every test split.
        splits: Names of the splits, the training split first; `dev` are those used to evaluate.
        suffix: Extension of the files.
        index: Column that identifies a row; where there is none, the row number does.
        headless: Columns of the labelled files where these have no header line.
        skip_broken: Skip rows with missing fields (with a count).
        score_range: Least and largest target of a regression.
        no_label: Label of rows that are left out, as their annotators did not agree.
        also: Another folder and suffix in which the same task is distributed.
        prepare: Command that puts the data in place.
        multi: Several labels, or none, may hold for a row.
        files: The file of each split of a user's own task.
        held_out: Share of the training rows that are the dev split, and the seed by which they are drawn.
        test_labels: The test split has labels, which benchmarks keep to themselves.
    """

    name: str
    folder: str
    text: tuple[str, ...]
    label: str
    labels: tuple[str, ...] = BINARY
    metrics: tuple[str, ...] = ("accuracy",)
    submission: tuple[tuple[str, str], ...] = ()
    splits: tuple[str, ...] = ("train", "dev", "test")
    dev: tuple[str, ...] = ("dev",)
    suffix: str = "tsv"
    index: str | None = "index"
    headless: tuple[str, ...] = ()
    skip_broken: bool = False
    score_range: tuple[float, float] = (0.0, 5.0)
    no_label: str | None = field(default=None, repr=False)
    names: tuple[str, ...] = field(default=(), repr=False)
    also: tuple[str, str] | None = None
    prepare: str = field(default="bash scripts/prepare_{name}.sh", repr=False)
    multi: bool = field(default=False, repr=False)
    files: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    held_out: tuple[float, int] | None = field(default=None, repr=False)
    test_labels: bool = field(default=False, repr=False)

    @property
    def kind(self) -> str:
        """What is asked of a row: one class (`single`), any number of labels (`multi`), a score (`regression`)."""
        return "regression" if self.regression else "multi" if self.multi else "single"

    @property
    def regression(self) -> bool:
        """Whether the target is a number."""
        return not self.labels

    @property
    def label_names(self) -> tuple[str, ...]:
        """What the classes are called to people, in class order; of a regression its label column."""
        return self.names or self.labels or (self.label,)

    @property
    def num_class(self) -> int:
        """Size of the model's output; 1 for regression."""
        return len(self.labels) or 1

    def hidden(self) -> list[object]:
        """Give what the repr leaves out and rows depend on, for the names of caches; nothing where all is as usual."""
        values = (self.no_label, self.multi or None, self.held_out, self.test_labels or None)
        return [value for value in values if value is not None]

    def is_labelled(self, split: str) -> bool:
        """Whether the files hold labels for `split`; a benchmark's test split can never be scored."""
        if split == "test" and self.test_labels:
            return True
        return not (self.is_official(split) and (split.startswith("test") or split == AUGMENTED))

    def is_official(self, split: str) -> bool:
        """Whether a split is of the task's own files; else it is the folder name of a run, with that run's logits."""
        return split in (*self.splits, *SLICES, AUGMENTED)

    def as_read(self, split: str) -> "Task":
        """Give the columns of a split's file: the task's own, or those of a run's logits."""
        if split == AUGMENTED:
            return replace(self, index=None)
        if self.is_official(split):
            return self
        numbers = tuple(map(str, range(len(self.labels))))
        return replace(
            self, text=("text", "text_pair")[: len(self.text)], label="label", labels=numbers, index=None, no_label=None
        )

    def file(self, split: str) -> Path:
        """Path of a split; a slice's is that of `train`.

        Raises:
            ValueError: The task has no such split, or see `layout`.
            FileNotFoundError: The data is not there.
        """
        if not self.is_official(split):
            if (file := distilled_file(split, self.name)).is_file():
                return file
            experiment, _, rest = split.rpartition(f"_{self.name}")[0].rpartition("_")
            if file.parent.is_dir() and experiment:
                run = f"--experiment {experiment} --model {rest} --task {self.name}"
                raise FileNotFoundError(f"{file} is not there; write it with: python run_fine_tune_gen_logits.py {run}")
            more = "; its task file can name more" if self.files else ""
            raise ValueError(
                f"--dataset {split!r}: {self.name} has the splits {', '.join((*self.splits, *SLICES, AUGMENTED))}{more}"
            )
        if split == AUGMENTED:
            if not (file := self.augmented_file()).is_file():
                make = f"python build_augmented.py --task {self.name}"
                raise FileNotFoundError(f"{file} is not there; make it with: {make}")
            return file
        if self.files:
            own = dict(self.files)
            file = Path(own.get(split, own["train"]))  # slices, and rows held out, are in the latter
            if not file.is_file():
                raise FileNotFoundError(f"{file} is not there, where {self.name} has its {split} rows; was it moved?")
            return file
        folder, suffix = self.layout()
        file = task_dir(folder) / f"{self.splits[0] if split in SLICES else split}.{suffix}"
        if not file.is_file():
            raise FileNotFoundError(f"{file} is not there; get it with: {self.prepare.format(name=self.name)}")
        return file

    def augmented_file(self) -> Path:
        """Name the file of augmented rows, in the task's folder of the data folder."""
        return task_dir(self.layout()[0]) / f"{AUGMENTED}.tsv"

    def layout(self) -> tuple[str, str]:
        """Folder and suffix of the task's files; of the layouts in which it is distributed, the one that is there.

        Raises:
            ValueError: Both are there.
        """
        layouts = [(self.folder, self.suffix), *([self.also] if self.also else [])]
        there = [layout for layout in layouts if self.files_there(*layout)]
        if len(there) > 1:
            files = " and ".join(str(self.files_there(*layout)[0]) for layout in there)
            raise ValueError(f"{self.name} is there in two layouts, {files}: move the files of one of them away")
        return (there or layouts)[0]

    def files_there(self, folder: str, suffix: str) -> list[Path]:
        """Find the files of a layout."""
        return [file for split in self.splits if (file := task_dir(folder) / f"{split}.{suffix}").is_file()]


TASKS = {
    task.name: task
    for task in (
        Task("sst2", "SST-2", ("sentence",), "label", submission=(("test", "SST-2.tsv"),), names=POLARITY),
        Task("qnli", "QNLI", ("question", "sentence"), "label", PAIR_NLI, submission=(("test", "QNLI.tsv"),)),
        Task(
            "mnli", "MNLI", ("sentence1", "sentence2"), "gold_label", NLI, splits=MNLI_SPLITS, dev=MNLI_SPLITS[1:3],
            submission=(("test_matched", "MNLI-m.tsv"), ("test_mismatched", "MNLI-mm.tsv")), also=("mnli", "jsonl"),
            no_label="-",
        ),
        Task(
            "boolq", "BoolQ", ("passage", "question"), "label", ("false", "true"), suffix="jsonl", index="idx",
            splits=("train", "val", "test"), dev=("val",), submission=(("test", "BoolQ.jsonl"),),
        ),
        Task(
            "mrpc", "MRPC", ("#1 String", "#2 String"), "Quality", metrics=("accuracy", "f1"),
            submission=(("test", "MRPC.tsv"),), names=("not_equivalent", "equivalent"),
        ),
        Task(
            "qqp", "QQP", ("question1", "question2"), "is_duplicate", metrics=("accuracy", "f1"), index="id",
            submission=(("test", "QQP.tsv"),), skip_broken=True, names=("not_duplicate", "duplicate"),
        ),
        Task("rte", "RTE", ("sentence1", "sentence2"), "label", PAIR_NLI, submission=(("test", "RTE.tsv"),)),
        Task(
            "cola", "CoLA", ("sentence",), "label", metrics=("matthews", "accuracy"),
            submission=(("test", "CoLA.tsv"),), headless=("source", "label", "star", "sentence"),
            names=("unacceptable", "acceptable"),
        ),
        Task(
            "stsb", "STS-B", ("sentence1", "sentence2"), "score", (), ("pearson", "spearman"),
            submission=(("test", "STS-B.tsv"),),
        ),
        Task(
            "sample", "SAMPLE", ("sentence",), "label", submission=(("test", "SAMPLE.tsv"),),
            names=POLARITY, prepare="python generate_sample_corpus.py",
        ),
    )
}  # fmt: skip
