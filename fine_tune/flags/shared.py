"""The flags that scripts share, in groups; a script names the groups it takes. Those of the methods: `train.methods`.

Source of names, defaults and meaning: the LAD documents (Lin et al. 2023, Sensors 23(3):1483, and its repository).
`batch_size` is the effective batch. Layers on the command line are 1-based. All counts are in updates unless a name
says otherwise. Field types are real objects here: no `from __future__ import annotations`.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from fine_tune.flags.option import DEVICE_ID, FRACTION, NOT_NEGATIVE, PART, POSITIVE, SEED, SEQUENCE, Checked, flag
from fine_tune.hub import lasting
from fine_tune.path import ARCHITECTURES, PROJECT, TRANSFORMERS, architecture_of, expanded, experiment_name, run_dir
from fine_tune.tasks.named import task_named
from fine_tune.tasks.own import FLAGS
from fine_tune.tasks.table import TASKS


def whole_path(name: str) -> str:
    """Spell a file so that it is the same from any folder."""
    return str(expanded(name).resolve())


TASK = f"task to work on: {', '.join(TASKS)}; or a task file of rows of your own, mine.yaml, later just its name"
DEVICE = "number of the GPU to use, -1 for the CPU (default: a GPU if there is one)"


@dataclass(frozen=True)
class FilesConfig(Checked):
    """Rows of the user's own, in the words of HuggingFace's scripts: what a task file says."""

    train_file: str | None = flag(
        "learn from rows of your own, csv, tsv, jsonl or parquet; --task gives them a name", None, spell=whole_path
    )
    validation_file: str | None = flag("rows of your own to evaluate on", None, spell=whole_path)
    test_file: str | None = flag("rows of your own to predict", None, spell=whole_path)
    text_column_names: str | None = flag("column of the text, or both of a pair, a,b (default: sentence)", None)
    label_column_name: str | None = flag("column of the label (default: label)", None)
    split: float | None = flag("hold out this share of your own training rows, where there is no dev file", None, PART)
    split_seed: int | None = flag("seed of what is held out (default: 42)", None, SEED)

    def own_task(self) -> dict[str, object]:
        """Give what flags say, by the keys of a task file."""
        said = {key: value for key, name in FLAGS.items() if (value := getattr(self, name)) is not None}
        return said | ({"text": said["text"].split(",")} if "text" in said else {})


@dataclass(frozen=True)
class RunConfig(FilesConfig):
    """The run."""

    experiment: str = flag("name the run; its folder is <experiment>_<model>_<task>")
    task: str = flag(TASK, alias=("task_name",))
    model: str = flag("architecture of the model that is trained", "bert", choices=ARCHITECTURES)
    dataset: str = flag("split to train on", "train")
    seed: int = flag("seed of initialisation, dropout and data order", 42, SEED)
    batch_size: int = flag("rows per update", 32, POSITIVE, alias=("per_device_train_batch_size",))
    accum_step: int = flag("micro-batches per update; must divide batch_size", 1, POSITIVE)
    device_id: int | None = flag(DEVICE, None, DEVICE_ID)
    pad_to_max: bool = flag("pad every row to max_seq_len and let padding count, as the released code does", False)
    overwrite: bool = flag("replace an existing run of the same name, with all that is in its folder", False)
    preflight: bool = flag("check teacher, data, sizes and disk before the start", True)
    dry_run: bool = flag("check, try some updates, say what the run would take; write nothing", False)
    resume: bool = flag("continue an interrupted run of the same name and flags; start it if there is none", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "task", task_named(self.task, self.own_task()).name)  # `SST-2` is sst2
        experiment_name(self.experiment, self.model, self.task)
        if self.batch_size % self.accum_step:
            raise ValueError(f"--batch_size {self.batch_size} is not a multiple of --accum_step {self.accum_step}")
        if self.resume and self.overwrite:
            raise ValueError("--resume continues a run, --overwrite replaces it; give one of them")

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return run_dir(self.experiment, self.model, self.task)


@dataclass(frozen=True)
class Pace(Checked):
    """What a run writes while it trains."""

    log_step: int = flag("updates between two log entries", 100, POSITIVE)
    ckpt_step: int = flag("updates between two checkpoints", 1000, POSITIVE)
    state_step: int = flag("updates between two states to --resume from; a checkpoint saves one, too", 500, POSITIVE)
    keep_last: int | None = flag("keep only this many checkpoints, the last ones (default: all)", None, POSITIVE)


@dataclass(frozen=True)
class StepConfig(Checked):
    """Duration in updates."""

    total_step: int | None = flag(
        "updates in all", None, POSITIVE, alias=("max_steps",), decides=("total_step", "warmup_step", "epoch")
    )
    warmup_step: int | None = flag("updates of linear warm-up", None, NOT_NEGATIVE, decides=("warmup_step",))


@dataclass(frozen=True)
class EpochConfig(Checked):
    """Duration in epochs, where updates are not given."""

    epoch: float | None = flag(
        "passes over the data (default: 3)", None, POSITIVE, alias=("num_train_epochs",),
        decides=("total_step", "warmup_step"),
    )  # fmt: skip
    warmup_rate: float = flag("fraction of the updates used for warm-up", 0.1, FRACTION, decides=("warmup_step",))


@dataclass(frozen=True)
class TeacherConfig(Checked):
    """The encoder to fine-tune."""

    ptrain_ver: str = flag(
        "encoder to start from, a hub name or a local folder", "bert-base-uncased",
        alias=("model_name_or_path",), spell=lasting,
    )  # fmt: skip
    num_class: int | None = flag("number of classes; 1 for regression (default: what the task has)", None, POSITIVE)
    max_seq_len: int = flag("tokens per input at most", 128, SEQUENCE, alias=("max_seq_length",))
    dropout: float = flag("dropout of the encoder and of the classifier", 0.1, FRACTION)


@dataclass(frozen=True)
class TeacherRef(Checked):
    """The fine-tuned teacher."""

    teacher_exp: str = flag("learn from the teacher of this experiment name")
    tmodel: str | None = flag(
        "architecture of the teacher (default: that of its run, a bert if there are several)",
        None,
        choices=TRANSFORMERS,
    )
    tckpt: int | None = flag("checkpoint of the teacher to use (default: its last)", None, NOT_NEGATIVE)

    def __post_init__(self) -> None:
        super().__post_init__()
        experiment_name(self.teacher_exp, "", "", "--teacher_exp")

    def architecture(self, task: str) -> str:
        """Architecture of the teacher: what was given, or a bert, or else that of the only run of this name.

        Raises:
            ValueError: There are several runs of this name, and none of a bert.
        """
        there = [model for model in TRANSFORMERS if run_dir(self.teacher_exp, model, task).is_dir()]
        if not self.tmodel and len(there) > 1 and there[0] != TRANSFORMERS[0]:
            raise ValueError(f"--teacher_exp {self.teacher_exp}: there are {', '.join(there)}; say which with --tmodel")
        return self.tmodel or (there or TRANSFORMERS)[0]

    def folder(self, task: str) -> Path:
        """Folder of the teacher's run."""
        return run_dir(self.teacher_exp, self.architecture(task), task)


@dataclass(frozen=True)
class StudentConfig(Checked):
    """The student; sizes not given are the teacher's."""

    num_hidden_layers: int | None = flag(
        "number of layers (default: half of the teacher's)", None, POSITIVE, decides=("layer_map",)
    )
    d_model: int | None = flag("width of the hidden states", None, POSITIVE)
    d_ff: int | None = flag("width of the feed-forward layers", None, POSITIVE)
    num_attention_heads: int | None = flag("number of attention heads", None, POSITIVE)
    d_emb: int | None = flag("width of an ALBERT's embeddings (default: 128)", None, POSITIVE)
    type_vocab_size: int | None = flag("number of segment types", None, POSITIVE)
    num_class: int | None = flag("number of classes; 1 for regression", None, POSITIVE)
    max_seq_len: int | None = flag("tokens per input at most", None, SEQUENCE, alias=("max_seq_length",))
    dropout: float = flag("dropout of the encoder and of the classifier", 0.1, FRACTION)
    student_init: str = flag("layers to copy at the start", "even", choices=("even", "first", "random"))
    init_from: str = flag(
        "copy from the fine-tuned teacher, or from the pre-trained encoder",
        "teacher",
        choices=("pretrained", "teacher"),
    )
    init_embeddings: bool = flag("copy the embeddings at the start (the released code leaves them random)", True)
    tokenizer: str | None = flag(
        "cut the student's text with the tokenizer of this encoder (default: the teacher's)", None, spell=lasting
    )
    ptrain_ver: str | None = flag(
        "use this encoder for --init_from pretrained, or its tokenizer for a released teacher",
        None,
        alias=("model_name_or_path",),
        spell=lasting,
    )


@dataclass(frozen=True)
class SizesConfig(Checked):
    """The student; without a teacher, flags alone say its sizes."""

    num_hidden_layers: int = flag("number of layers", 6, POSITIVE)
    d_model: int = flag("width of the hidden states", 768, POSITIVE)
    d_ff: int = flag("width of the feed-forward layers", 3072, POSITIVE)
    d_emb: int = flag("width of an ALBERT's embeddings", 128, POSITIVE)
    num_attention_heads: int = flag("number of attention heads", 16, POSITIVE)
    type_vocab_size: int = flag("number of segment types", 2, POSITIVE)
    num_class: int | None = flag("number of classes; 1 for regression (default: what the task has)", None, POSITIVE)
    max_seq_len: int = flag("tokens per input at most", 512, SEQUENCE, alias=("max_seq_length",))
    dropout: float = flag("dropout of the encoder and of the classifier", 0.1, FRACTION)
    ptrain_ver: str | None = flag(
        "cut text with the tokenizer of this encoder (default: that of the run whose logits are read, if it is of the "
        "same architecture)",
        None,
        alias=("model_name_or_path",),
        spell=lasting,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % self.num_attention_heads:
            raise ValueError(
                f"--num_attention_heads {self.num_attention_heads} does not divide --d_model {self.d_model}"
            )


@dataclass(frozen=True)
class InitConfig(Checked):
    """The student's start: random, or layers copied from another model. Layers are 1-based."""

    init_exp: str | None = flag("copy layers of the run of this experiment name", None)
    init_ckpt: int | None = flag("checkpoint of that run to copy from (default: its last)", None, NOT_NEGATIVE)
    init_ptrain_ver: str | None = flag("copy layers of this encoder, a hub name or a local folder", None, spell=lasting)
    init_start: int = flag("first layer to copy", 1, POSITIVE)
    init_end: int | None = flag("last layer to copy, at most (default: the last there is)", None, POSITIVE)
    init_step: int = flag("copy every layer, every second, ..", 1, POSITIVE)
    init_part: str = flag(
        "copy whole layers, with embeddings and pooler, or the linear maps of their attention alone",
        "all",
        choices=("all", "attn"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init_exp is not None:
            experiment_name(self.init_exp, "", "", "--init_exp")
            if self.init_ptrain_ver:
                raise ValueError("--init_exp and --init_ptrain_ver both name what to copy; give one of them")
        elif self.init_ptrain_ver is None:
            fields = {field.name: field.default for field in dataclasses.fields(self)}
            for name, default in fields.items():
                if getattr(self, name) != default:
                    raise ValueError(
                        f"--{name} says what to copy, but not from where: give --init_exp or --init_ptrain_ver"
                    )


@dataclass(frozen=True)
class NetworkConfig(Checked):
    """The network on word vectors."""

    config: str | None = flag(
        "file that says what it is made of (default: glove_student/configs/config-<model>.json)", None, spell=whole_path
    )
    embedding_path: str = flag(
        "word vectors in GloVe's text format, of any dimension",
        str(PROJECT / "glove_student/embeddings/glove.6B.100d.txt"),
        spell=whole_path,
    )
    embedding_trainable: bool = flag("train the word vectors, too", False)


@dataclass(frozen=True)
class SourceConfig(Checked):
    """The student to continue; tokens and sizes are its, and the run has a folder of its own."""

    src_experiment: str = flag(
        "continue the student of this experiment name", decides=("src_ckpt", "dropout", "dataset", "seed")
    )
    src_ckpt: int | None = flag("its checkpoint to start from (default: its last)", None, NOT_NEGATIVE)
    dropout: float | None = flag("dropout of the encoder and of the classifier (default: the source's)", None, FRACTION)
    ptrain_ver: str | None = flag(
        "use the tokenizer of this encoder for a released source or teacher", None, alias=("model_name_or_path",),
        spell=lasting,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        experiment_name(self.src_experiment, "", "", "--src_experiment")


@dataclass(frozen=True)
class OptimConfig(Checked):
    """AdamW with linear warm-up and decay."""

    lr: float = flag("peak learning rate", 3e-5, POSITIVE, alias=("learning_rate",))
    beta1: float = flag("decay of the first moment", 0.9, FRACTION)
    beta2: float = flag("decay of the second moment", 0.999, FRACTION)
    eps: float = flag("epsilon in the denominator", 1e-8, POSITIVE)
    weight_decay: float = flag("decoupled weight decay; none on biases and layer norms", 0.01, NOT_NEGATIVE)
    max_norm: float = flag("clip the gradient to this 2-norm", 1.0, POSITIVE)


@dataclass(frozen=True)
class PrecisionConfig(Checked):
    """Precision."""

    precision: str | None = flag(
        "format of matrix products (default: fp32)", None, choices=("fp32", "bf16", "fp16"), decides=("amp",)
    )
    amp: bool = flag("use bf16 where the hardware has it, else fp16 (GPUs only)", False, decides=("precision",))


@dataclass(frozen=True)
class SpeedConfig(Checked):
    """Speed and memory; the results stay the same but for rounding."""

    compile: bool = flag("compile what is trained, and the teacher, with torch.compile; takes a minute or two", False)
    gradient_checkpointing: bool = flag("recompute layers in the backward pass instead of storing their states", False)
    lazy_embedding: bool = flag("update rows of the embedding when they are next read (one process, CPU)", True)


@dataclass(frozen=True)
class TeacherPlace(Checked):
    """The teacher's place, or that of its logits."""

    tdevice_id: int | None = flag(
        "number of the teacher's GPU, -1 for the CPU (default: the student's)",
        None,
        DEVICE_ID,
        alias=("teacher_device",),
    )


@dataclass(frozen=True)
class OutputsConfig(TeacherPlace):
    """The teacher's outputs."""

    teacher_cache: str = flag(
        "keep these outputs of the teacher on disk and read them there; or read the banks that build_*bank.py wrote",
        "none",
        choices=("none", "logits", "cls", "states", "bank"),
    )
    cache_budget: float = flag("refuse a cache of more than this many GB", 16.0, POSITIVE)


@dataclass(frozen=True)
class EvalConfig(Checked):
    """The run to read."""

    experiment: str = flag("experiment name of the run")
    task: str = flag(TASK, alias=("task_name",))
    model: str | None = flag(
        "architecture of the run's model (default: found by its folder's name)", None, choices=ARCHITECTURES
    )
    dataset: str = flag("split to read", "dev")
    batch_size: int = flag("rows per batch", 128, POSITIVE)
    device_id: int | None = flag(DEVICE, None, DEVICE_ID)
    ptrain_ver: str | None = flag(
        "use the tokenizer of this encoder, not the run's own", None, alias=("model_name_or_path",), spell=lasting
    )
    preflight: bool = flag("check tokenizer and classes before the start", True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "task", task_named(self.task, experiment=self.experiment).name)
        object.__setattr__(self, "model", self.model or architecture_of(self.experiment, self.task))
        experiment_name(self.experiment, self.architecture, self.task)

    @property
    def architecture(self) -> str:
        """Architecture of the run's model."""
        assert self.model
        return self.model

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return run_dir(self.experiment, self.architecture, self.task)


@dataclass(frozen=True)
class ImportConfig(Checked):
    """The classifier to import."""

    experiment: str = flag("name the run; its folder is <experiment>_<architecture>_<task>")
    task: str = flag(TASK, alias=("task_name",))
    ptrain_ver: str = flag(
        "a classifier that is fine-tuned on the task, a hub name or a local folder", alias=("model_name_or_path",),
        spell=lasting,
    )  # fmt: skip
    model: str | None = flag("refuse one of another architecture (default: any)", None, choices=TRANSFORMERS)
    max_seq_len: int = flag("tokens per input at most", 128, SEQUENCE, alias=("max_seq_length",))
    overwrite: bool = flag("replace an existing run of the same name, with all that is in its folder", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "task", task_named(self.task).name)
        experiment_name(self.experiment, "", "")


@dataclass(frozen=True)
class OutletConfig(Checked):
    """What is written."""

    ckpt: int | None = flag("checkpoint to use (default: the last)", None, NOT_NEGATIVE)
    overwrite: bool = flag("replace files that were made from something else", False)


STUDENT_GROUPS = (
    *(RunConfig, Pace, TeacherRef, StudentConfig, StepConfig, EpochConfig, OptimConfig, PrecisionConfig, SpeedConfig),
)
"""What every script takes that trains a student of a teacher."""
NETWORK_GROUPS = (
    *(RunConfig, Pace, TeacherRef, NetworkConfig, StepConfig, EpochConfig, OptimConfig, PrecisionConfig, SpeedConfig),
)
"""What a script takes that trains a network on word vectors."""
SIZED_GROUPS = (
    *(RunConfig, Pace, SizesConfig, InitConfig, StepConfig, EpochConfig, OptimConfig, PrecisionConfig, SpeedConfig),
)
"""What a script takes that trains a student of logits in a file."""
CONTINUED_GROUPS = (
    *(RunConfig, Pace, SourceConfig, StepConfig, EpochConfig, OptimConfig, PrecisionConfig, SpeedConfig),
)
"""What a script takes that continues a student."""
PART_GROUPS = {OptimConfig: "Optimiser", StepConfig: "Schedule"}
"""What a part that is trained beside the student has of its own, and its heading; the rest is the student's."""
