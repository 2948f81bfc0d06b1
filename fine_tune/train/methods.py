"""The table of methods, and the flags that they alone have. Layers on the command line are 1-based.

A row says which script trains a method, which groups of flags that takes, which flags make it that method, and what it
needs of its teacher. Scripts, suites, tests, benchmarks and pictures read it; a name means the same everywhere.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from fine_tune.flags.inherited import let_inherit
from fine_tune.flags.option import DEVICE_ID, NOT_NEGATIVE, POSITIVE, SHARE, Checked, flag
from fine_tune.flags.parser import Parser
from fine_tune.flags.shared import (
    CONTINUED_GROUPS,
    NETWORK_GROUPS,
    PART_GROUPS,
    SIZED_GROUPS,
    STUDENT_GROUPS,
    OutputsConfig,
    SourceConfig,
    TeacherPlace,
    TeacherRef,
)
from fine_tune.path import NETWORKS


class HardWeight:
    """Of a group of flags with `--hard_weight`: what it asks of the rows."""

    hard_weight: float

    def asks_for_gold(self) -> str:
        """Say which flag has to be given for rows without gold labels; "" if all is well."""
        return "--hard_weight 0" if self.hard_weight else ""


@dataclass(frozen=True)
class LogitConfig(HardWeight, Checked):
    """Weights of the losses on logits."""

    softmax_temp: float = flag("temperature of the soft targets", 1.0, POSITIVE)
    soft_weight: float = flag("weight of the soft target loss", 0.2, NOT_NEGATIVE)
    hard_weight: float = flag("weight of the hard target loss", 0.8, NOT_NEGATIVE)


@dataclass(frozen=True)
class LogitMseConfig(HardWeight, Checked):
    """Weights of the losses on logits."""

    mse_weight: float = flag("weight of the squared error between logits", 1.0, NOT_NEGATIVE)
    hard_weight: float = flag("weight of the hard target loss", 0.0, NOT_NEGATIVE)


@dataclass(frozen=True)
class HiddenConfig(LogitConfig):
    """Weights of the losses on logits and hidden states."""

    hidden_mse_weight: float = flag("weight of the hidden state loss", 100.0, NOT_NEGATIVE, alias=("mu",))


@dataclass(frozen=True)
class MapConfig(Checked):
    """Which teacher layer each student layer follows."""

    layer_map: str | None = flag(
        "map layers: even, first, last, or 1-based pairs teacher:student such as 2:1,4:2 (default: even)", None
    )


@dataclass(frozen=True)
class GateConfig(Checked):
    """The gates."""

    gate_device_id: int | None = flag(
        "number of the gates' GPU, -1 for the CPU (default: the student's)", None, DEVICE_ID
    )
    gate_init_bias: float = flag(
        "start the gates with this bias: 3 lets 95 % of a teacher layer through; 0 is PyTorch's, as released, some "
        "50 %",
        0.0,
    )
    gate_norm: str = flag(
        "take the statistics of the gates' layer norm over tokens and width, or over the width of every token",
        "seq",
        choices=("seq", "token"),
    )
    gate_norm_init: str = flag(
        "scale with which the gates' layer norm starts: one, or that of the teacher's layer",
        "one",
        choices=("one", "teacher"),
    )


@dataclass(frozen=True)
class ChainConfig(Checked):
    """The chain of gates."""

    reverse_gate: bool = flag("run the chain from the last teacher layer down", False)


@dataclass(frozen=True)
class PkdConfig(Checked):
    """PKD."""

    pkd_exp: str = flag(
        "match all tokens, as the LAD authors ran it; or [CLS] as published, from every k-th or from the last teacher "
        "layers",
        "pkd-hidden",
        choices=("pkd-hidden", "pkd-skip", "pkd-last"),
        decides=("layer_map",),
    )


@dataclass(frozen=True)
class AlpConfig(Checked):
    """ALP-KD."""

    alp_exp: str = flag(
        "attend by [CLS]; by every token; by every token to the mapped teacher layer and those below",
        "alp-kd",
        choices=("alp-kd", "alp-kd-hidden", "alp-kd-hidden-v2"),
        decides=("layer_map",),
    )
    detach_target: bool = flag("keep the student's gradient out of its own targets' attention weights", False)


@dataclass(frozen=True)
class LadProbeConfig(Checked):
    """The probe of LAD."""

    probing_exp: str = flag("probe to run", choices=("lad_user_defined", "partial_lad", "lad_cls"))
    gate_indices: str | None = flag(
        "1-based gates whose aggregates are learned, such as 12,10,8", None, alias=("teacher_indices",)
    )
    student_indices: str | None = flag("1-based student layers that learn them, such as 6,5,4", None)


@dataclass(frozen=True)
class PkdProbeConfig(Checked):
    """The probe of PKD."""

    probing_exp: str = flag("probe to run", choices=("pkd_cls_user_defined", "pkd_hidden_user_defined"))
    teacher_indices: str = flag("1-based teacher layers that are learned, such as 3,4,6")
    student_indices: str | None = flag("1-based student layers that learn them, such as 6,5,4", None)


@dataclass(frozen=True)
class ShareConfig(Checked):
    """The losses on logits."""

    softmax_temp: float = flag("temperature of the soft targets", 1.0, POSITIVE)
    soft_weight: float = flag("share of the soft target loss; the hard target loss has the rest", 0.2, SHARE)

    def asks_for_gold(self) -> str:
        """Say which flag has to be given for rows without gold labels; "" if all is well."""
        return "--soft_weight 1" if self.soft_weight < 1 else ""


@dataclass(frozen=True)
class SclConfig(Checked):
    """The supervised contrast."""

    scl_temp: float = flag("temperature of the supervised contrast", 0.1, POSITIVE)


@dataclass(frozen=True)
class MatchConfig(ShareConfig, SclConfig):
    """Losses and stages."""

    use_hidden_loss: bool = flag("learn the teacher's hidden states", False)
    use_classify_loss: bool = flag("learn logits and labels, and contrast labels", False)
    cls_steps: int = flag(
        "updates of the hidden loss alone, after which the classification losses take its place; 0: all at once",
        0,
        NOT_NEGATIVE,
    )
    mu: float = flag(
        "weight of the hidden state loss of each student layer; of their sum, not of their mean", 100.0, NOT_NEGATIVE
    )
    ce_weight: float = flag("share of the losses on logits; the supervised contrast has the rest", 1.0, SHARE)

    def asks_for_gold(self) -> str:
        """Say which flag has to be given for rows without gold labels; "" if all is well."""
        if not self.use_classify_loss:
            return ""
        return "--ce_weight 1" if self.ce_weight < 1 else super().asks_for_gold()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.use_hidden_loss or self.use_classify_loss):
            raise ValueError("nothing to learn: give --use_hidden_loss, --use_classify_loss, or both")
        if self.cls_steps and not (self.use_hidden_loss and self.use_classify_loss):
            raise ValueError(
                f"--cls_steps {self.cls_steps}: the first stage needs --use_hidden_loss, the second --use_classify_loss"
            )
        of_logits = ("softmax_temp", "soft_weight", "scl_temp", "ce_weight")
        for field in dataclasses.fields(self):
            value, switch = getattr(self, field.name), ""
            if field.name == "mu" and not self.use_hidden_loss:
                switch = "use_hidden_loss"
            if field.name in of_logits and not self.use_classify_loss:
                switch = "use_classify_loss"
            if switch and value != field.default:
                raise ValueError(f"--{field.name} {value} has no effect without --{switch}")


@dataclass(frozen=True)
class NegativesConfig(Checked):
    """The rows that each row is contrasted with, and for how long alone."""

    neg_num: int = flag("how many of them", 20, POSITIVE)
    defined_by_label: bool = flag("take rows of other labels only", False)
    contrast_steps: int = flag("updates of contrast alone at first", 0, NOT_NEGATIVE)


@dataclass(frozen=True)
class ContrastConfig(NegativesConfig):
    """Contrast of the pooled output, and its stages."""

    two_stage: bool = flag("contrast alone at first, for --contrast_steps", False)
    softmax_temp: float = flag("temperature of the contrast", 0.07, POSITIVE)
    logit_loss_weight: float = flag("share of the soft target loss; the hard target loss has the rest", 0.2, SHARE)
    membank_device: int | None = flag(
        "number of the GPU that keeps the bank (default, and -1: it stays on disk)", None, DEVICE_ID
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.contrast_steps and not self.two_stage:
            raise ValueError(f"--contrast_steps {self.contrast_steps} has no effect without --two_stage")


@dataclass(frozen=True)
class LayerContrastConfig(NegativesConfig):
    """Contrast of every layer, and its stages."""

    contrast_temp: float = flag("temperature of the contrast", 0.07, POSITIVE)
    contrast_weight: float = flag(
        "weight of the contrast of each layer beside the losses on logits; of their sum, not of their mean",
        1.0,
        NOT_NEGATIVE,
    )
    softmax_temp: float = flag("temperature of the soft targets", 1.0, POSITIVE)
    soft_label_weight: float = flag("share of the soft target loss; the hard target loss has the rest", 0.2, SHARE)


@dataclass(frozen=True)
class ContinuedKdConfig(ShareConfig):
    """The losses on logits, and what they train."""

    freeze_encoder: bool = flag("train the classifier alone", False)


class Method(NamedTuple):
    """A row of the table.

    Attributes:
        name: Its name in commands, configurations, tables and charts.
        script: Its script, without `.py`.
        groups: The groups of flags that the script takes.
        fixed: Flags of the script that make it this method; `true` stands for a switch.
        needs: The most it asks of a teacher: `none`, `logits`, `cls` or `states`, see `teacher.protocol`.
        gated: Whether gates are trained with the student, under flags of their own.
        defaults: Defaults of flags that are the script's own.
        files: Scripts that write what it reads of its teacher, with their flags.
    """

    name: str
    script: str
    groups: tuple[type, ...]
    fixed: Mapping[str, str] = MappingProxyType({})
    needs: str = "states"
    gated: bool = False
    defaults: Mapping[str, Any] = MappingProxyType({})
    files: tuple[tuple[str, ...], ...] = ()


KD = (*STUDENT_GROUPS, LogitConfig, OutputsConfig)
HIDDEN = (*STUDENT_GROUPS, HiddenConfig)
PKD = (*HIDDEN, MapConfig, PkdConfig, OutputsConfig)
PKD_PROBE = (*HIDDEN, PkdProbeConfig, OutputsConfig)
ALP = (*HIDDEN, MapConfig, AlpConfig, OutputsConfig)
LAD = (*HIDDEN, MapConfig, GateConfig, ChainConfig, OutputsConfig)
LAD_NO = (*HIDDEN, MapConfig, GateConfig, OutputsConfig)
LAD_PROBE = (*HIDDEN, LadProbeConfig, GateConfig, OutputsConfig)
OFFLINE = (*SIZED_GROUPS, LogitConfig)
MATCH = (*STUDENT_GROUPS, MatchConfig, MapConfig, OutputsConfig)
CONTRAST = (*STUDENT_GROUPS, ContrastConfig, OutputsConfig)
WORDS = (*NETWORK_GROUPS, LogitMseConfig, OutputsConfig)
LAYER_CONTRAST = (*STUDENT_GROUPS, LayerContrastConfig, MapConfig, TeacherPlace)
SCL = (*CONTINUED_GROUPS, SclConfig)
KD_FROM = (*CONTINUED_GROUPS, TeacherRef, ContinuedKdConfig, OutputsConfig)

MATCH_SCRIPT, CONTRAST_SCRIPT = "run_fine_tune_distill_mgpu", "run_fine_tune_contrast_distill"
SLOW = {"lr": 3e-5}
"""The learning rate of the BoolQ and MNLI documents."""

METHODS = {
    method.name: method
    for method in (
        Method("fine_tune", "run_student_fine_tune", STUDENT_GROUPS, needs="none"),
        Method("kd", "run_kd_distil", KD, needs="logits"),
        Method("pkd-hidden", "run_pkd_distill", PKD, {"pkd_exp": "pkd-hidden"}),
        Method("pkd-skip", "run_pkd_distill", PKD, {"pkd_exp": "pkd-skip"}, "cls"),
        Method("pkd-last", "run_pkd_distill", PKD, {"pkd_exp": "pkd-last"}, "cls"),
        Method("pkd_hidden_user_defined", "run_probing", PKD_PROBE, {"probing_exp": "pkd_hidden_user_defined"}),
        Method("pkd_cls_user_defined", "run_probing", PKD_PROBE, {"probing_exp": "pkd_cls_user_defined"}, "cls"),
        Method("alp-kd", "run_alp_distil", ALP, {"alp_exp": "alp-kd"}, "cls"),
        Method("alp-kd-hidden", "run_alp_distil", ALP, {"alp_exp": "alp-kd-hidden"}),
        Method("alp-kd-hidden-v2", "run_alp_distil", ALP, {"alp_exp": "alp-kd-hidden-v2"}),
        Method("lad", "run_lad_distil", LAD, gated=True),
        Method("lad_reverse", "run_lad_distil", LAD, {"reverse_gate": "true"}, gated=True),
        Method("lad_no", "run_lad_no_distil", LAD_NO, gated=True),
        Method("lad_user_defined", "run_probing_lad", LAD_PROBE, {"probing_exp": "lad_user_defined"}, gated=True),
        Method("partial_lad", "run_probing_lad", LAD_PROBE, {"probing_exp": "partial_lad"}, gated=True),
        Method("lad_cls", "run_probing_lad", LAD_PROBE, {"probing_exp": "lad_cls"}, "cls", gated=True),
        Method(
            "offline",
            "run_fine_tune_distill",
            OFFLINE,
            needs="none",
            defaults=SLOW | {"soft_weight": 1.0, "hard_weight": 1.0},
            files=(("run_fine_tune_gen_logits",),),
        ),
        Method("match", MATCH_SCRIPT, MATCH, {"use_hidden_loss": "true", "use_classify_loss": "true"}, defaults=SLOW),
        Method("match_hidden", MATCH_SCRIPT, MATCH, {"use_hidden_loss": "true"}, defaults=SLOW),
        Method("match_classify", MATCH_SCRIPT, MATCH, {"use_classify_loss": "true"}, "logits", defaults=SLOW),
        Method("contrast", CONTRAST_SCRIPT, CONTRAST, needs="logits", defaults=SLOW, files=(("build_membank",),)),
        Method(
            "contrast_two_stage",
            CONTRAST_SCRIPT,
            CONTRAST,
            {"two_stage": "true"},
            "logits",
            defaults=SLOW,
            files=(("build_membank",),),
        ),
        Method(
            "layerwise_contrast",
            "run_layerwise_contrast_distill",
            LAYER_CONTRAST,
            needs="none",
            defaults=SLOW,
            files=(("build_logitsbank",), ("build_membank", "--layer_wise")),
        ),
        *(
            Method(name, "run_glove_distil", WORDS, {"model": name}, "logits", defaults={"model": NETWORKS[1]})
            for name in NETWORKS
        ),
        Method("scl", "train_scl_from_ckpt", SCL, needs="none", defaults=SLOW),
        Method("kd_from_ckpt", "train_kd_from_ckpt", KD_FROM, needs="logits", defaults=SLOW | {"soft_weight": 0.5}),
    )
}
OLDER_NAMES = {"ft": "fine_tune", "pkd": "pkd-hidden", "pkd-user-defined": "pkd_hidden_user_defined"}
"""Names under which suites knew methods before, where more differs than `-` and `_`."""


def method_named(name: str) -> Method:
    """Find a method by its name, or by one that it had before.

    Raises:
        ValueError: There is none of that name.
    """
    plain = {known.replace("-", "_"): method for known, method in METHODS.items()}
    method = plain.get(OLDER_NAMES.get(name, name).replace("-", "_"))
    if method is None:
        raise ValueError(f"the methods are {', '.join(METHODS)}, got {name!r}")
    return method


def methods_of(script: str) -> list[Method]:
    """List the methods that a script trains."""
    return [method for method in METHODS.values() if method.script == script]


def method_parser(script: str, doc: str | None, **defaults: Any) -> Parser:
    """Build the parser of a method's script; as in LAD's documents, students learn at 1e-4 and gates at 1e-6.

    Args:
        script: Its name in the table.
        doc: Its docstring, for `--help`.
        defaults: Defaults of flags that are the script's own.
    """
    rows = methods_of(script)
    gates = {group: f"{title} of the gates (default: the student's)" for group, title in PART_GROUPS.items()}
    rates = {"lr": 1e-4} | ({"gate_lr": 1e-6} if rows[0].gated else {})

    def name(values: dict[str, Any]) -> str:
        """Name the row whose fixed flags are given; if several fit, the one with most: LAD reversed is also LAD."""
        fits = [row for row in rows if all(str(values[key]).lower() == value for key, value in row.fixed.items())]
        return max(fits, key=lambda row: len(row.fixed)).name

    parser = Parser(doc, rows[0].groups, {"gate_": gates} if rows[0].gated else {}, repeats=True, name_method=name)
    parser.set_defaults(**(rates | dict(rows[0].defaults) | defaults))
    if SourceConfig in rows[0].groups:
        let_inherit(parser)
    return parser
