"""A student before its first update: its sizes, and where its weights come from."""

import copy
import dataclasses

import torch
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerFast

from fine_tune.data.tokens import load_tokenizer, same_tokens
from fine_tune.flags.shared import InitConfig, SizesConfig, StudentConfig
from fine_tune.layer_map import LayerMap, layer_map
from fine_tune.model.architectures import FAMILIES, setting
from fine_tune.model.classifier import Classifier
from fine_tune.model.copy_layers import init_attention, init_student
from fine_tune.model.encoder import pretrained_encoder, sized_encoder, student_encoder, with_dropout
from fine_tune.model.load import Loaded, has_own_tokenizer, load_run
from fine_tune.model.part import TrainedPart
from fine_tune.model.projection import ProjectedStudent
from fine_tune.path import STUDENTS
from fine_tune.tasks.named import task_named
from fine_tune.tasks.table import Task

Origin = dict[str, str]
"""Where the weights of each part of a student come from, in words."""


def class_count(task: Task, given: int | None) -> int:
    """Take the number of classes from the task.

    Raises:
        ValueError: `--num_class` says otherwise.
    """
    if given not in (None, task.num_class):
        kind = "is a regression" if task.regression else f"has {task.num_class} classes"
        raise ValueError(f"--num_class {given}: {task.name} {kind}; leave the flag out")
    return task.num_class


def settled_sizes(cfg: StudentConfig, architecture: str, teacher: Loaded) -> StudentConfig:
    """Fill in the sizes that `cfg` leaves open: those of the teacher, with half its layers.

    Raises:
        ValueError: Sizes that disagree with the teacher or with each other.
    """
    config = teacher.model.encoder.config
    if architecture not in (*STUDENTS, config.model_type):
        kinds = ", ".join(dict.fromkeys((*STUDENTS, config.model_type)))
        raise ValueError(f"--model {architecture}: a student of a {config.model_type} is one of {kinds}")
    if architecture not in ("albert", "electra") and cfg.d_emb:
        raise ValueError(
            f"--d_emb {cfg.d_emb}: a {architecture.upper()}'s embeddings are as wide as its states; leave it out"
        )
    segments = setting(config, "type_vocab_size") or (2 if architecture in STUDENTS else None)
    if cfg.type_vocab_size and not segments:
        raise ValueError(f"--type_vocab_size {cfg.type_vocab_size}: {architecture} embeds no segments; leave it out")
    task = task_named(teacher.config["task"])
    if cfg.max_seq_len not in (None, teacher.max_seq_len):
        raise ValueError(f"--max_seq_len {cfg.max_seq_len}: the teacher's is {teacher.max_seq_len}")
    sizes = dataclasses.replace(
        cfg,
        num_class=class_count(task, cfg.num_class),
        max_seq_len=teacher.max_seq_len,
        num_hidden_layers=cfg.num_hidden_layers or max(1, config.num_hidden_layers // 2),
        d_model=cfg.d_model or config.hidden_size,
        d_ff=cfg.d_ff or setting(config, "intermediate_size"),
        d_emb=cfg.d_emb or (128 if architecture == "albert" else None),
        num_attention_heads=cfg.num_attention_heads or config.num_attention_heads,
        type_vocab_size=cfg.type_vocab_size or segments,
    )
    assert sizes.d_model and sizes.num_attention_heads
    if sizes.d_model % sizes.num_attention_heads:
        raise ValueError(f"--num_attention_heads {sizes.num_attention_heads} does not divide the width {sizes.d_model}")
    return sizes


def new_student(
    cfg: StudentConfig,
    teacher: Loaded,
    named: LayerMap | None = None,
    architecture: str = "bert",
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> tuple[Classifier, Origin]:
    """Build the student of settled sizes and start it as `cfg` says.

    Args:
        cfg: Sizes and start.
        teacher: Its teacher.
        named: Student layers that start from other layers than `--student_init` would give them.
        architecture: `bert`, `albert`, or that of the teacher.
        tokenizer: Its tokenizer, None for the teacher's; embeddings of other tokens are not copied.

    Returns:
        The student, and where each part of it comes from.

    Raises:
        ValueError: The weights cannot be copied.
    """
    tokenizer = tokenizer or teacher.tokenizer
    same = same_tokens(tokenizer, teacher.tokenizer)
    assert cfg.num_class is not None and cfg.num_hidden_layers is not None
    sizes = {
        "num_hidden_layers": cfg.num_hidden_layers,
        "hidden_size": cfg.d_model,
        "intermediate_size": cfg.d_ff,
        "embedding_size": cfg.d_emb,
        "num_attention_heads": cfg.num_attention_heads,
        "type_vocab_size": cfg.type_vocab_size,
        "max_position_embeddings": cfg.max_seq_len,
    }
    if not same:
        sizes |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    encoder = student_encoder(teacher.model.encoder.config, sizes, cfg.dropout, architecture)
    student = Classifier(encoder, cfg.num_class, cfg.dropout, teacher.model.dense is not None)
    if cfg.student_init == "random":
        unused = cfg.ptrain_ver and has_own_tokenizer(teacher.folder)
        if unused or not cfg.init_embeddings or cfg.init_from == "pretrained":
            raise ValueError("--student_init random copies nothing: no --init_from, --no_init_embeddings, --ptrain_ver")
        return student, {"everything": "random"}
    if architecture == "albert":
        raise ValueError(
            f"--model {architecture}: its layers share one set of weights, so none are copied; {COPY_NOTHING}"
        )
    source, words = source_encoder(cfg, teacher, tokenizer, architecture)
    layers = layer_map(cfg.student_init, source.config.num_hidden_layers, cfg.num_hidden_layers) | (named or {})
    alike = same_tokens(words, tokenizer)
    origin = init_student(student.encoder, source, layers, cfg.init_embeddings and alike)
    if student.dense and teacher.model.dense and source is teacher.model.encoder:
        student.dense.load_state_dict(teacher.model.dense.state_dict())
        origin["pooler"] = "copied"
    return student, {"source": cfg.init_from} | origin | {"classifier": "random"}


def with_new_dropout(model: Classifier, dropout: float) -> Classifier:
    """Build a model anew, to be trained, with its weights and another dropout."""
    encoder = AutoModel.from_config(with_dropout(copy.deepcopy(model.encoder.config), dropout), dtype=torch.float32)
    anew = Classifier(encoder, model.linear_layer.out_features, dropout, model.dense is not None)
    anew.load_state_dict(model.state_dict(), assign=True)
    return anew


def sized_student(
    kind: str, sizes: SizesConfig, init: InitConfig, task: Task, tokenizer: PreTrainedTokenizerFast
) -> tuple[Classifier, Origin]:
    """Build a student whose sizes flags alone give; random, or with layers copied from a run or an encoder.

    Embeddings are copied with whole layers where tokens, segments and positions are the source's.

    Args:
        kind: `bert` or `albert`.
        sizes: Its sizes.
        init: What is copied.
        task: Its task.
        tokenizer: Its tokenizer.

    Returns:
        The student, and where each part of it comes from.

    Raises:
        ValueError: The weights cannot be copied.
        FileNotFoundError: No such run.
    """
    student = Classifier(sized_encoder(kind, sizes, tokenizer), task.num_class, sizes.dropout)
    if init.init_exp is None and init.init_ptrain_ver is None:
        return student, {"everything": "random"}
    if kind != "bert":
        raise ValueError(f"--model {kind}: its layers share one set of weights, so no range of layers can be copied")
    if init.init_exp is not None:
        loaded = load_run(init.init_exp, kind, task, init.init_ckpt, None, "--init_ckpt")
        source, words, name = loaded.model.encoder, loaded.tokenizer, f"{loaded.folder.name}, checkpoint {loaded.step}"
    else:
        assert init.init_ptrain_ver is not None
        name = init.init_ptrain_ver
        source, words = pretrained_encoder(name), load_tokenizer(name)
    layers = ranged_layers(init, source, sizes)
    if init.init_part == "attn":
        return student, {"source": name} | init_attention(student.encoder, source, layers)
    fits = sizes.type_vocab_size == source.config.type_vocab_size
    fits = fits and sizes.max_seq_len <= source.config.max_position_embeddings
    alike = fits and same_tokens(words, tokenizer)
    return student, {"source": name, "classifier": "random"} | init_student(student.encoder, source, layers, alike)


def ranged_layers(init: InitConfig, source: PreTrainedModel, sizes: SizesConfig) -> LayerMap:
    """Give the source's layer, 0-based, of every student layer.

    Raises:
        ValueError: The range has not as many layers as the student, or the sizes are not the source's.
    """
    config = source.config
    if config.model_type != "bert":
        raise ValueError(f"the weights of an encoder of the architecture {config.model_type} do not fit a bert")
    for flag, found in (
        ("d_model", config.hidden_size),
        ("num_attention_heads", config.num_attention_heads),
        *((("d_ff", config.intermediate_size),) if init.init_part == "all" else ()),
    ):
        if getattr(sizes, flag) != found:
            raise ValueError(
                f"--{flag} {getattr(sizes, flag)}: weights of {found} cannot be copied; give --{flag} {found}"
            )
    last = config.num_hidden_layers if init.init_end is None else init.init_end
    if last > config.num_hidden_layers:
        raise ValueError(f"--init_end {last}: the source has {config.num_hidden_layers} layers")
    taken = range(init.init_start - 1, last, init.init_step)
    if len(taken) != sizes.num_hidden_layers:
        words = f"--init_start {init.init_start} --init_end {last} --init_step {init.init_step}"
        raise ValueError(f"{words} names {len(taken)} layers, but --num_hidden_layers is {sizes.num_hidden_layers}")
    return dict(enumerate(taken))


def matched_to(student: Classifier, width: int) -> tuple[TrainedPart, Origin]:
    """Project a student's hidden states to the teacher's `width` if theirs is another, so that they can be compared."""
    if student.width == width:
        return student, {}
    return ProjectedStudent(student, width), {"projection": f"random, {student.width} to {width}"}


def source_encoder(
    cfg: StudentConfig, teacher: Loaded, tokenizer: PreTrainedTokenizerFast, architecture: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Give the encoder that a student's weights are copied from, and its tokens: the teacher's, or the pre-trained one.

    Raises:
        ValueError: Its tokens or its heads are not the student's.
    """
    source, words = teacher.model.encoder, teacher.tokenizer
    if cfg.init_from == "pretrained":
        name = cfg.ptrain_ver or teacher.config.get("ptrain_ver", "bert-base-uncased")
        if cfg.ptrain_ver:
            words = load_tokenizer(name)
            if not same_tokens(words, tokenizer):
                raise ValueError(
                    f"--ptrain_ver {name!r} cuts text into other tokens than the student: no common positions"
                )
        source = pretrained_encoder(name)
    elif cfg.ptrain_ver and has_own_tokenizer(teacher.folder):
        raise ValueError("--ptrain_ver has no effect without --init_from pretrained; leave it out")
    if source.config.hidden_size != cfg.d_model:
        raise ValueError(
            f"--d_model {cfg.d_model}: weights of width {source.config.hidden_size} cannot be copied; "
            "use --student_init random"
        )
    kind, heads = source.config.model_type, source.config.num_attention_heads
    as_bert = architecture == "bert" and kind in FAMILIES and FAMILIES[kind].as_bert is not None
    if kind != architecture and not as_bert:
        raise ValueError(
            f"the weights of an encoder of the architecture {kind} do not fit a {architecture}; {COPY_NOTHING}"
        )
    if heads != cfg.num_attention_heads:
        raise ValueError(
            f"--num_attention_heads {cfg.num_attention_heads}: weights of {heads} cannot be copied; {COPY_NOTHING}"
        )
    return source, words


COPY_NOTHING = "use --student_init random"
