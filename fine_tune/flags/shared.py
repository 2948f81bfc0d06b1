"""Every flag of the project, in groups; a script names the groups it takes.

Source of names, defaults and meaning: the LAD documents (Lin et al. 2023, Sensors 23(3):1483, and its repository).
`batch_size` is the effective batch. Layers on the command line are 1-based. All counts are in updates unless a name
says otherwise. Field types are real objects here: no `from __future__ import annotations`.
"""

from dataclasses import dataclass

from fine_tune.flags.option import DEVICE_ID, FRACTION, NOT_NEGATIVE, POSITIVE, SEED, SEQUENCE, Checked, flag
from fine_tune.path import experiment_name
from fine_tune.tasks.table import task_named


@dataclass
class RunConfig(Checked):
    """The run."""

    experiment: str = flag("unique name of the run; its folder is <experiment>_<model>_<task>")
    task: str = flag("task: sst2, qnli, mnli, boolq, mrpc, qqp, rte, cola, stsb or sample", alias=("task_name",))
    model: str = flag("architecture", "bert", choices=("bert", "albert"))
    dataset: str = flag("split to train on", "train")
    seed: int = flag("seed of initialisation, dropout and data order", 42, SEED)
    batch_size: int = flag("sentences per update", 32, POSITIVE, alias=("per_device_train_batch_size",))
    accum_step: int = flag("micro-batches per update; must divide batch_size", 1, POSITIVE)
    device_id: int | None = flag(
        "-1 for the CPU, else the GPU's number (default: a GPU if there is one)", None, DEVICE_ID
    )
    pad_to_max: bool = flag("pad every sentence to max_seq_len and let padding count, as the released code does", False)
    overwrite: bool = flag("replace an existing run of the same name", False)
    preflight: bool = flag("begin without the checks of teacher, data, sizes and disk", True)
    dry_run: bool = flag("check, try some updates, tell what the run would take; write nothing", False)
    resume: bool = flag("go on with an interrupted run of the same name and flags; begin it if there is none", False)

    def __post_init__(self) -> None:
        """Check ranges, the name, the task and the division of the batch."""
        super().__post_init__()
        self.task = task_named(self.task).name
        experiment_name(self.experiment, self.model, self.task)
        if self.batch_size % self.accum_step:
            raise ValueError(f"--batch_size {self.batch_size} is not a multiple of --accum_step {self.accum_step}")
        if self.resume and self.overwrite:
            raise ValueError("--resume goes on with a run, --overwrite begins it anew; give one of them")


@dataclass
class Pace(Checked):
    """What a run writes while it trains."""

    log_step: int = flag("updates between two log entries", 100, POSITIVE)
    ckpt_step: int = flag("updates between two checkpoints", 1000, POSITIVE)
    state_step: int = flag("updates between two states to --resume from; checkpoints have one, too", 500, POSITIVE)
    keep_last: int | None = flag("keep this many checkpoints, the last ones (default: all)", None, POSITIVE)


@dataclass
class StepConfig(Checked):
    """Duration in updates."""

    total_step: int | None = flag("updates in all", None, POSITIVE, alias=("max_steps",))
    warmup_step: int | None = flag("updates of linear warm-up", None, NOT_NEGATIVE)


@dataclass
class EpochConfig(Checked):
    """Duration in epochs, where updates are not given."""

    epoch: float | None = flag("passes over the data (default: 3)", None, POSITIVE, alias=("num_train_epochs",))
    warmup_rate: float = flag("fraction of the updates used for warm-up", 0.1, FRACTION)


@dataclass
class TeacherConfig(Checked):
    """The encoder to fine-tune."""

    ptrain_ver: str = flag(
        "hub name or local folder of the encoder", "bert-base-uncased", alias=("model_name_or_path",)
    )
    num_class: int | None = flag("classes; 1 for regression (default: what the task has)", None, POSITIVE)
    max_seq_len: int = flag("tokens per input at most", 128, SEQUENCE, alias=("max_seq_length",))
    dropout: float = flag("dropout of the encoder and of the classifier", 0.1, FRACTION)


@dataclass
class TeacherRef(Checked):
    """The fine-tuned teacher."""

    teacher_exp: str = flag("experiment name of the teacher's run")
    tmodel: str = flag("architecture of the teacher", "bert", choices=("bert", "albert"))
    tckpt: int | None = flag("checkpoint of the teacher (default: its last)", None, NOT_NEGATIVE)

    def __post_init__(self) -> None:
        """Check ranges and the name."""
        super().__post_init__()
        experiment_name(self.teacher_exp, self.tmodel, "", "--teacher_exp")


@dataclass
class StudentConfig(Checked):
    """The student; sizes not given are the teacher's."""

    num_hidden_layers: int | None = flag("layers (default: half of the teacher's)", None, POSITIVE)
    d_model: int | None = flag("width", None, POSITIVE)
    d_ff: int | None = flag("width of the feed-forward layers", None, POSITIVE)
    num_attention_heads: int | None = flag("attention heads", None, POSITIVE)
    type_vocab_size: int | None = flag("segment types", None, POSITIVE)
    num_class: int | None = flag("classes; 1 for regression", None, POSITIVE)
    max_seq_len: int | None = flag("tokens per input at most", None, SEQUENCE, alias=("max_seq_length",))
    dropout: float = flag("dropout of the encoder and of the classifier", 0.1, FRACTION)
    student_init: str = flag("teacher layers to start from", "even", choices=("even", "first", "random"))
    init_from: str = flag("weights to start from", "teacher", choices=("pretrained", "teacher"))
    init_embeddings: bool = flag("leave the embeddings random, as the released code does", True)
    ptrain_ver: str | None = flag(
        "encoder of --init_from pretrained, or tokenizer of a released teacher", None, alias=("model_name_or_path",)
    )


@dataclass
class OptimConfig(Checked):
    """AdamW with linear warm-up and decay."""

    lr: float = flag("peak learning rate", 3e-5, POSITIVE, alias=("learning_rate",))
    beta1: float = flag("decay of the first moment", 0.9, FRACTION)
    beta2: float = flag("decay of the second moment", 0.999, FRACTION)
    eps: float = flag("denominator's epsilon", 1e-8, POSITIVE)
    weight_decay: float = flag("decoupled weight decay; none on biases and layer norms", 0.01, NOT_NEGATIVE)
    max_norm: float = flag("clip the gradient to this 2-norm", 1.0, POSITIVE)


@dataclass
class PrecisionConfig(Checked):
    """Precision."""

    precision: str | None = flag("format of matrix products (default: fp32)", None, choices=("fp32", "bf16", "fp16"))
    amp: bool = flag("--precision bf16 where the hardware has it, else fp16 (GPUs only)", False)


@dataclass
class SpeedConfig(Checked):
    """Speed and memory; the results stay the same but for rounding."""

    compile: bool = flag("compile layers and gates with torch.compile: a minute or two of warm-up", False)
    gradient_checkpointing: bool = flag("compute layers again in the backward pass instead of keeping them", False)
    lazy_embedding: bool = flag("on one CPU process, too, update every row of the embeddings in every step", True)


@dataclass
class OutputsConfig(Checked):
    """The teacher's outputs."""

    tdevice_id: int | None = flag("device of the teacher (default: the student's)", None, DEVICE_ID)
    teacher_cache: str = flag("what to keep on disk", "none", choices=("none", "logits", "cls", "states"))
    cache_budget: float = flag("largest cache in GB", 16.0, POSITIVE)


@dataclass
class EvalConfig(Checked):
    """The run to read."""

    experiment: str = flag("name of the run")
    task: str = flag("task of the run", alias=("task_name",))
    model: str = flag("architecture", "bert", choices=("bert", "albert"))
    dataset: str = flag("split to read", "dev")
    batch_size: int = flag("sentences per batch", 128, POSITIVE)
    device_id: int | None = flag(
        "-1 for the CPU, else the GPU's number (default: a GPU if there is one)", None, DEVICE_ID
    )
    ptrain_ver: str | None = flag("tokenizer to use in place of the run's own", None, alias=("model_name_or_path",))
    preflight: bool = flag("go on without the checks of tokenizer and classes", True)

    def __post_init__(self) -> None:
        """Check ranges, the name and the task."""
        super().__post_init__()
        self.task = task_named(self.task).name
        experiment_name(self.experiment, self.model, self.task)


STUDENT_GROUPS = (
    *(RunConfig, Pace, TeacherRef, StudentConfig, StepConfig, EpochConfig, OptimConfig, PrecisionConfig, SpeedConfig),
)
"""What every script takes that trains a student."""
