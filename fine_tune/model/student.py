"""A student before its first update: its sizes, and where its weights come from."""

from transformers import PreTrainedModel

from fine_tune.data.tokens import fingerprint, load_tokenizer
from fine_tune.flags.shared import StudentConfig
from fine_tune.layer_map import LayerMap, layer_map
from fine_tune.model.classifier import Classifier, pretrained_encoder, student_encoder
from fine_tune.model.copy_layers import init_student
from fine_tune.model.load import Loaded, has_own_tokenizer
from fine_tune.run.build import class_count
from fine_tune.tasks.table import TASKS


def resolve_sizes(cfg: StudentConfig, architecture: str, teacher: Loaded) -> None:
    """Fill in the sizes that `cfg` left open: those of the teacher, with half its layers.

    Raises:
        ValueError: Sizes that disagree with the teacher or with each other.
    """
    if architecture != "bert":
        raise ValueError(f"--model {architecture}: a student is a bert")
    config = teacher.model.encoder.config
    task = TASKS[teacher.config["task"]]
    cfg.num_class = class_count(task, cfg.num_class)
    if cfg.max_seq_len not in (None, teacher.config["max_seq_len"]):
        raise ValueError(f"--max_seq_len {cfg.max_seq_len}: the teacher's is {teacher.config['max_seq_len']}")
    cfg.max_seq_len = teacher.config["max_seq_len"]
    cfg.num_hidden_layers = cfg.num_hidden_layers or max(1, config.num_hidden_layers // 2)
    cfg.d_model = cfg.d_model or config.hidden_size
    cfg.d_ff = cfg.d_ff or config.intermediate_size
    cfg.num_attention_heads = cfg.num_attention_heads or config.num_attention_heads
    if cfg.d_model % cfg.num_attention_heads:
        raise ValueError(f"--num_attention_heads {cfg.num_attention_heads} does not divide the width {cfg.d_model}")
    cfg.type_vocab_size = cfg.type_vocab_size or config.type_vocab_size
    if cfg.type_vocab_size < len(task.text):
        raise ValueError(f"--type_vocab_size {cfg.type_vocab_size}: {task.name} has {len(task.text)} segments")


def build_student(
    cfg: StudentConfig, teacher: Loaded, named: LayerMap | None = None
) -> tuple[Classifier, dict[str, str]]:
    """Build the student of resolved sizes and start it as `cfg` says.

    Args:
        cfg: Sizes and start.
        teacher: Its teacher.
        named: Student layers that start from other layers than `--student_init` would give them.

    Returns:
        The student, and where each part of it comes from.

    Raises:
        ValueError: The weights cannot be copied.
    """
    sizes = {
        "num_hidden_layers": cfg.num_hidden_layers,
        "hidden_size": cfg.d_model,
        "intermediate_size": cfg.d_ff,
        "num_attention_heads": cfg.num_attention_heads,
        "type_vocab_size": cfg.type_vocab_size,
        "max_position_embeddings": cfg.max_seq_len,
    }
    assert cfg.num_class is not None and cfg.num_hidden_layers is not None
    student = Classifier(student_encoder(teacher.model.encoder, sizes, cfg.dropout), cfg.num_class, cfg.dropout)
    if cfg.student_init == "random":
        unused = cfg.ptrain_ver and has_own_tokenizer(teacher.folder)
        if unused or not cfg.init_embeddings or cfg.init_from == "pretrained":
            raise ValueError("--student_init random copies nothing: no --init_from, --no_init_embeddings, --ptrain_ver")
        return student, {"everything": "random"}
    source = source_encoder(cfg, teacher)
    layers = layer_map(cfg.student_init, source.config.num_hidden_layers, cfg.num_hidden_layers) | (named or {})
    origin = init_student(student.encoder, source, layers, cfg.init_embeddings)
    return student, {"source": cfg.init_from} | origin | {"classifier": "random"}


def source_encoder(cfg: StudentConfig, teacher: Loaded) -> PreTrainedModel:
    """Give the encoder that a student's weights are copied from: the teacher's, or the pre-trained one.

    Raises:
        ValueError: Its tokens or its heads are not the student's.
    """
    source = teacher.model.encoder
    if cfg.init_from == "pretrained":
        name = cfg.ptrain_ver or teacher.config.get("ptrain_ver", "bert-base-uncased")
        if cfg.ptrain_ver and fingerprint(load_tokenizer(name)) != fingerprint(teacher.tokenizer):
            raise ValueError(f"--ptrain_ver {name!r} cuts text into other tokens than the teacher: no common positions")
        source = pretrained_encoder(name)
    elif cfg.ptrain_ver and has_own_tokenizer(teacher.folder):
        raise ValueError("--ptrain_ver has no effect without --init_from pretrained; leave it out")
    if source.config.hidden_size != cfg.d_model:
        raise ValueError(
            f"--d_model {cfg.d_model}: weights of width {source.config.hidden_size} cannot be copied; "
            "use --student_init random"
        )
    kind, heads = source.config.model_type, source.config.num_attention_heads
    if (kind, heads) != ("bert", cfg.num_attention_heads):
        raise ValueError(
            f"a {kind} of {heads} heads cannot be copied into a bert of {cfg.num_attention_heads}; "
            "use --student_init random"
        )
    return source
