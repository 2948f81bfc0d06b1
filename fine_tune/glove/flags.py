"""Flags of the GloVe document, in groups; names and defaults are its own."""

from dataclasses import dataclass
from pathlib import Path

from fine_tune.flags.option import NOT_NEGATIVE, POSITIVE, SEED, SHARE, Check, Checked, flag
from fine_tune.hardware.host import cores
from fine_tune.hub import lasting

DEVICE = "cuda, cuda:1, .. or cpu (default: a GPU if there is one)"


@dataclass(frozen=True)
class RowsConfig(Checked):
    """The model and the rows."""

    config: str = flag("file that says what the model is", "configs/config-glove-cnn.json")
    data_dir: str = flag("folder of train.txt, valid.txt and test.txt, and of what is made from them", "data/sst2")
    augmented: bool = flag("work on the augmented rows", False)
    augmented_filename: str | None = flag(
        "file of the augmented rows, in data_dir (default: augmented.txt, which has logits; to be labelled by a "
        "transformer: augmented.raw)",
        None,
    )
    label_filename: str = flag("file of the classes, in data_dir", "label.txt")

    @property
    def folder(self) -> Path:
        """The folder of the rows."""
        return Path(self.data_dir)

    def train_file(self, augmented: str = "augmented.txt") -> str:
        """Name the file of the rows to train on; `augmented` is what those are in unless the user says."""
        return (self.augmented_filename or augmented) if self.augmented else "train.txt"


@dataclass(frozen=True)
class EncoderConfig(Checked):
    """The transformer, if the model is one."""

    bert_model_name_or_path: str = flag(
        "encoder and tokenizer: a hub name, a folder, or a run of this project", "bert-base-uncased", spell=lasting
    )
    bert_do_lower_case: bool = flag("lower-case text, for an encoder whose tokenizer does not say so", False)
    bert_revision: str = flag("revision on the model hub", "main")


@dataclass(frozen=True)
class OutputConfig(Checked):
    """What a transformer is kept in."""

    bert_output_dir: str = flag("folder of fine-tuned transformers, each in one of its own", "bert-checkpoint")


@dataclass(frozen=True)
class VectorsConfig(Checked):
    """Word vectors."""

    embedding_path: str = flag("word vectors in GloVe's text format", "embeddings/glove.6B.300d.txt")
    seed: int = flag("seed of the mask's vector", 42, SEED)


@dataclass(frozen=True)
class TrainConfig(Checked):
    """Training."""

    embedding_filename: str = flag("file of the word vectors, in data_dir", "embedding.npy")
    embedding_trainable: bool = flag("train the word vectors, too", False)
    save_path: str = flag("name under which the best model is found", "pytorch-model.pt")
    device: str | None = flag(DEVICE, None)
    use_amp: bool = flag("compute matrix products in half precision", False)
    batch_size: int = flag("rows per device and backward pass", 128, POSITIVE)
    eval_batch_size: int = flag("rows per batch of validation", 128, POSITIVE)
    gradient_accumulation_steps: int = flag("backward passes per update", 1, POSITIVE)
    epoch: int = flag("epochs at most", 64, POSITIVE)
    lr: float = flag("learning rate", 2e-4, POSITIVE)
    lr_decay_rate: float = flag("factor of the learning rate where there is no progress", 1.0, POSITIVE)
    lr_decay_steps: float = flag("epochs without progress before it", 2.0, NOT_NEGATIVE)
    use_transformers_optimizer: bool = flag("warm up and decay linearly, not where there is no progress", False)
    warmup_epoch: int = flag(
        "epochs of warm-up; without --use_transformers_optimizer, of constant learning rate", 4, NOT_NEGATIVE
    )
    adam_epsilon: float = flag("epsilon in the denominator", 1e-8, POSITIVE)
    weight_decay: float = flag("decoupled weight decay; none on biases and layer norms", 0.01, NOT_NEGATIVE)
    max_grad_norm: float = flag("clip the gradient to this 2-norm", 1.0, POSITIVE)
    patience: int = flag("stop after more than this many epochs without a new best", 7, NOT_NEGATIVE)
    measure: str = flag("what is best on valid.txt", "loss", choices=("loss", "accuracy"))
    local_rank: int = flag("number of this process; torchrun gives it", 0, NOT_NEGATIVE)
    world_size: int = flag("processes; torchrun starts them", 1, POSITIVE)
    log_dir: str = flag("folder for TensorBoard", "runs")
    seed: int = flag("seed of initialisation, dropout and data order", 42, SEED)
    bert_use_feature_based: bool = flag("train the classifier alone, not the encoder", False)
    bert_remove_layers: str = flag("0-based layers of the encoder to remove first, such as 8,9,10", "")
    overwrite: bool = flag("train anew where the same run is there", False)


@dataclass(frozen=True)
class ScoreConfig(Checked):
    """Scoring."""

    model_path: str = flag("the model: what train.py saved under this name", "pytorch-model.pt")
    device: str | None = flag(DEVICE, None)
    num_threads: int = flag("threads of the CPU, 0 for all", 0, NOT_NEGATIVE)
    batch_size: int = flag("rows per batch", 1, POSITIVE)
    num_examples: int = flag("rows to score, 0 for all", 0, NOT_NEGATIVE)
    use_amp: bool = flag("compute matrix products in half precision", False)
    entropy_threshold: float | None = flag(
        "leave out augmented rows of which the transformer is less sure: more bits of entropy than this", None,
        NOT_NEGATIVE,
    )  # fmt: skip
    hard_labeling: bool = flag("write the class of augmented rows, not the logits", False)
    enable_inference: bool = flag("read one line at a time, without padding; write test.txt.inference", False)
    enable_dqm: bool = flag("quantise linear layers to int8 first (CPU)", False)
    convert_onnx: bool = flag("write the model as ONNX, and end", False)
    enable_ort: bool = flag("run the ONNX model", False)
    onnx_path: str = flag("file of the ONNX model", "pytorch-model.onnx")
    onnx_opset: int = flag("version of ONNX's operators", 18, POSITIVE)

    def check(self, glove: bool, augmented: bool) -> None:
        """Refuse flags that would have no effect.

        Args:
            glove: Whether the model is a network on word vectors.
            augmented: Whether augmented rows are labelled.

        Raises:
            ValueError: One would.
        """
        if glove and augmented:
            raise ValueError(
                "--augmented: a transformer labels augmented rows; --config is of a network on word vectors"
            )
        if not augmented and (self.hard_labeling or self.entropy_threshold is not None):
            raise ValueError("--hard_labeling and --entropy_threshold are for --augmented rows")
        if augmented and (self.enable_dqm or self.enable_ort or self.enable_inference):
            raise ValueError("--enable_dqm, --enable_ort and --enable_inference are for test.txt, not for --augmented")
        if self.enable_dqm and self.enable_ort:
            raise ValueError("--enable_dqm quantises torch's model, --enable_ort runs ONNX's; give one of them")


WORD = Check(lambda value: value.split() == [value], "must be one word without blanks")


@dataclass(frozen=True)
class AugmentConfig(Checked):
    """Samples."""

    mask_token: str = flag("the teacher's mask token; RoBERTa's is <mask>", "[MASK]", WORD)
    p_mask: float = flag("probability of a word to be masked", 0.1, SHARE)
    p_pos: float = flag("probability of a word to be replaced by one of the same part of speech", 0.1, SHARE)
    p_ng: float = flag("probability of a sample to have an n-gram masked", 0.25, SHARE)
    max_ng: int = flag("longest n-gram, in words", 5, POSITIVE)
    n_iter: int = flag("samples to draw of a text; equal ones are written once", 20, NOT_NEGATIVE)
    lower: bool = flag("lower-case all words, the mask token excepted", False)
    cap: bool = flag("change at most half of the words of a text", False)
    seed: int = flag("seed of the samples; the number of a row is the other half of it", 42, SEED)
    augment: bool = flag("draw samples: analyse and write the texts only", True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.p_mask + self.p_pos > 1:
            raise ValueError(
                f"--p_mask {self.p_mask} and --p_pos {self.p_pos}: more than 1 together; lower one of them"
            )
        if not self.augment:
            object.__setattr__(self, "n_iter", 0)


@dataclass(frozen=True)
class CrewConfig(Checked):
    """Words and processes."""

    analyzer: str = flag("what finds words and parts of speech: spacy (English), kiwi (Korean) or none", "spacy")
    parallel: bool = flag("work on all cores", False)
    processes: int | None = flag("work in this many processes (default: 1; all cores with --parallel)", None, POSITIVE)
    overwrite: bool = flag("replace an output that was made from something else", False)

    @property
    def crew(self) -> int:
        """Processes to work in."""
        return self.processes or (cores() if self.parallel else 1)
