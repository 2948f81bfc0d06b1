"""The table of all methods that the tests of methods go through, and the flags that make a run exact and short."""

from typing import Any

LAD_PROBE, PKD_PROBE = "run_probing_lad", "run_probing"
# The teacher has 4 layers, the students 2; the maps of the user start a student as the default does.
METHODS: dict[str, tuple[str, tuple[object, ...]]] = {
    "lad": ("run_lad_distil", ()),
    "lad_reversed": ("run_lad_distil", ("--reverse_gate",)),
    "lad_no": ("run_lad_no_distil", ()),
    "lad_user_defined": (
        LAD_PROBE,
        ("--probing_exp", "lad_user_defined", "--gate_indices", "4,2", "--student_indices", "2,1"),
    ),
    "partial_lad": (LAD_PROBE, ("--probing_exp", "partial_lad", "--gate_indices", 2)),
    "lad_cls": (LAD_PROBE, ("--probing_exp", "lad_cls")),
    "alp-kd": ("run_alp_distil", ("--alp_exp", "alp-kd")),
    "alp-kd-hidden": ("run_alp_distil", ("--alp_exp", "alp-kd-hidden")),
    "alp-kd-hidden-v2": ("run_alp_distil", ("--alp_exp", "alp-kd-hidden-v2")),
    "pkd-hidden": ("run_pkd_distill", ()),
    "pkd-skip": ("run_pkd_distill", ("--pkd_exp", "pkd-skip")),
    "pkd-last": ("run_pkd_distill", ("--pkd_exp", "pkd-last")),
    "pkd_cls_user_defined": (PKD_PROBE, ("--probing_exp", "pkd_cls_user_defined", "--teacher_indices", "2,4")),
    "pkd_hidden_user_defined": (
        PKD_PROBE,
        ("--probing_exp", "pkd_hidden_user_defined", "--teacher_indices", "4,2", "--student_indices", "2,1"),
    ),
    "kd": ("run_kd_distil", ()),
}
HIDDEN = [name for name in METHODS if name != "kd"]
"""Those with a loss on hidden states."""
GATES = {
    "lad": (2, 3, 4), "lad_reversed": (3, 2), "lad_no": (2, 4), "lad_user_defined": (2, 3, 4), "partial_lad": (2,),
    "lad_cls": (2, 3, 4),
}  # fmt: skip
"""Those with gates: 1-based teacher layers of the gates, in the order in which the teacher's layers are folded."""
CLS = {"lad_cls", "alp-kd", "pkd-skip", "pkd-last", "pkd_cls_user_defined"}
"""Those that look at [CLS] alone."""
MAPS = {"alp-kd": None, "alp-kd-hidden": None, "kd": None, "pkd-skip": "2:1", "pkd-last": "3:1"}
"""The map in config.json where it is not `2:1,4:2`."""
TABLES = {"alp-kd": (4, 4), "alp-kd-hidden": (4, 4), "alp-kd-hidden-v2": (2, 4)}
"""Those with attention: how many teacher layers each student layer looks at."""

QUICK = ("--device_id", -1, "--task", "sst2", "--batch_size", 8, "--log_step", 1, "--total_step", 4, "--warmup_step", 1)
EXACT = (*QUICK, "--teacher_exp", "teacher", "--dropout", 0, "--seed", 42)
PROPORTIONAL = {"eps": 1, "lr": 1, "max_norm": 1000}
"""Updates in proportion to the gradient."""


def flags(method: str, *base: object, gate: dict[str, Any] | None = None, mu: float | None = None) -> tuple[Any, ...]:
    """Script and flags of a method; those of gates and of the hidden loss only where it has one."""
    script, own = METHODS[method]
    gates = [word for name, value in (gate or {}).items() for word in (f"--gate_{name}", value)]
    weight = () if mu is None or method == "kd" else ("--hidden_mse_weight", mu)
    return (script, *base, *own, *(gates if method in GATES else ()), *weight)
