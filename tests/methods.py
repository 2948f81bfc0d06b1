"""What tests alone know of each method, one row each, and the flags that make a run exact and short.

Script, fixed flags, what is asked of the teacher and whether there are gates: `fine_tune.train.methods`.
"""

from pathlib import Path
from typing import Any, NamedTuple

from fine_tune.path import NETWORKS
from fine_tune.train.methods import METHODS as TABLE


class Row(NamedTuple):
    """A method on a teacher of 4 layers and a student of 2.

    Attributes:
        words: Flags that the script needs beside the fixed ones; maps start a student as the default does.
        gates: 1-based teacher layers of the gates, in the order in which the teacher's layers are folded.
        map: The map in config.json.
        attention: How many teacher layers each student layer looks at.
    """

    words: tuple[object, ...] = ()
    gates: tuple[int, ...] = ()
    map: str | None = "2:1,4:2"
    attention: tuple[int, ...] = ()


ROWS = {
    "lad": Row(gates=(2, 3, 4)),
    "lad_reverse": Row(gates=(3, 2)),
    "lad_no": Row(gates=(2, 4)),
    "lad_user_defined": Row(("--gate_indices", "4,2", "--student_indices", "2,1"), gates=(2, 3, 4)),
    "partial_lad": Row(("--gate_indices", 2), gates=(2,)),
    "lad_cls": Row(gates=(2, 3, 4)),
    "alp-kd": Row(map=None, attention=(4, 4)),
    "alp-kd-hidden": Row(map=None, attention=(4, 4)),
    "alp-kd-hidden-v2": Row(attention=(2, 4)),
    "pkd-hidden": Row(),
    "pkd-skip": Row(map="2:1"),
    "pkd-last": Row(map="3:1"),
    "pkd_cls_user_defined": Row(("--teacher_indices", "2,4")),
    "pkd_hidden_user_defined": Row(("--teacher_indices", "4,2", "--student_indices", "2,1")),
    "kd": Row(map=None),
    "fine_tune": Row(map=None),
}
BOTH, HALF = ("--use_hidden_loss", "--use_classify_loss"), ("--contrast_steps", 2)
SIZES = ("--d_model", 16, "--d_ff", 32, "--num_attention_heads", 2, "--num_hidden_layers", 2, "--max_seq_len", 24)
STAGED = {
    "match": (*BOTH, "--ce_weight", 0.5, "--cls_steps", 2),
    "match_hidden": ("--use_hidden_loss",),
    "match_classify": ("--use_classify_loss",),
    "contrast": ("--neg_num", 3),
    "contrast_two_stage": ("--neg_num", 3, "--two_stage", *HALF),
    "layerwise_contrast": ("--neg_num", 3, *HALF),
    "scl": ("--src_experiment", "source"),
    "kd_from_ckpt": ("--src_experiment", "source"),
    "offline": ("--dataset", "teacher_bert_sst2", *SIZES),
    **{name: ("--model", name, "--embedding_path", str(Path(__file__).with_name("vectors.txt"))) for name in NETWORKS},
}
"""Those that read files, continue a student or change their losses on the way, and their flags; see `test_stages`."""


def own_words(method: str) -> tuple[object, ...]:
    """Flags of its script that make it this method on these models."""
    switches = [(f"--{key}",) if value == "true" else (f"--{key}", value) for key, value in TABLE[method].fixed.items()]
    return (*(word for words in switches for word in words), *ROWS[method].words)


METHODS = {name: (TABLE[name].script, own_words(name)) for name in ROWS if TABLE[name].needs != "none"}
"""Script and flags of those that learn from a teacher."""
HIDDEN = [name for name in METHODS if TABLE[name].needs != "logits"]
"""Those with a loss on hidden states."""
CLS = {name for name in METHODS if TABLE[name].needs == "cls"}
"""Those that look at [CLS] alone."""
GATES = {name: ROWS[name].gates for name in METHODS if TABLE[name].gated}
"""Gates of those that have some."""
TABLES = {name: row.attention for name, row in ROWS.items() if row.attention}
"""Attention of those that have some."""
LAD_PROBE, PKD_PROBE = (TABLE[name].script for name in ("lad_cls", "pkd_cls_user_defined"))

QUICK = ("--device_id", -1, "--task", "sst2", "--batch_size", 8, "--log_step", 1, "--total_step", 4, "--warmup_step", 1)
EXACT = (*QUICK, "--teacher_exp", "teacher", "--dropout", 0, "--seed", 42)
PROPORTIONAL = {"eps": 1, "lr": 1, "max_norm": 1000}
"""Updates in proportion to the gradient."""


def flags(method: str, *base: object, gate: dict[str, Any] | None = None, mu: float | None = None) -> tuple[Any, ...]:
    """Script and flags of a method; those of gates and of the hidden loss only where it has one."""
    script, own = METHODS[method]
    gates = [word for name, value in (gate or {}).items() for word in (f"--gate_{name}", value)]
    weight = () if mu is None or method not in HIDDEN else ("--hidden_mse_weight", mu)
    return (script, *base, *own, *(gates if method in GATES else ()), *weight)
