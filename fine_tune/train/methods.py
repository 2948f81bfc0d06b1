"""The flags of the methods, in groups, see `config`; layers on the command line are 1-based."""

from dataclasses import dataclass

from fine_tune.flags.option import DEVICE_ID, NOT_NEGATIVE, POSITIVE, Checked, Parser, add_flags, flag
from fine_tune.flags.shared import OptimConfig, StepConfig

GATE_GROUPS = (OptimConfig, StepConfig)
"""What gates have of their own, under the prefix `gate_`."""


def add_gate_flags(parser: Parser) -> None:
    """Add the flags of the gates' optimiser and schedule."""
    add_flags(parser, OptimConfig, title="Optimiser of the gates", prefix="gate_")
    add_flags(parser, StepConfig, title="Schedule of the gates (default: the student's)", prefix="gate_")
    parser.set_defaults(gate_lr=1e-6)


@dataclass
class GateFlags(Checked):
    """The gates."""

    gate_device_id: int | None = flag("device of the gates (default: the student's)", None, DEVICE_ID)
    gate_init_bias: float = flag(
        "bias the gates start with: 3 lets 95 % of a teacher layer through; 0 is PyTorch's, as released, some 50 %", 0.0
    )
    gate_norm: str = flag(
        "the gates' layer norm is over tokens and width, or over the width", "seq", choices=("seq", "token")
    )
    gate_norm_init: str = flag(
        "scale the gates' layer norm starts with: one, or that of the teacher's layer",
        "one",
        choices=("one", "teacher"),
    )


@dataclass
class ChainConfig(Checked):
    """The chain of gates."""

    reverse_gate: bool = flag("run the chain from the last teacher layer down", False)


@dataclass
class LogitConfig(Checked):
    """Weights of the losses on the logits."""

    softmax_temp: float = flag("temperature of the soft targets", 1.0, POSITIVE)
    soft_weight: float = flag("weight of the soft target loss", 0.2, NOT_NEGATIVE)
    hard_weight: float = flag("weight of the hard target loss", 0.8, NOT_NEGATIVE)


@dataclass
class HiddenConfig(Checked):
    """Weight of the loss on the hidden states."""

    hidden_mse_weight: float = flag("weight of the hidden state loss", 100.0, NOT_NEGATIVE, alias=("mu",))


@dataclass
class MapConfig(Checked):
    """Which teacher layer each student layer follows."""

    layer_map: str | None = flag(
        "even, first, last, or 1-based pairs teacher:student such as 2:1,4:2; even where left open", None
    )


@dataclass
class PkdConfig(Checked):
    """PKD."""

    pkd_exp: str = flag(
        "all tokens, as the LAD authors ran it; or [CLS] as published, from every k-th or from the last teacher layers",
        "pkd-hidden",
        choices=("pkd-hidden", "pkd-skip", "pkd-last"),
    )


@dataclass
class AlpConfig(Checked):
    """ALP-KD."""

    alp_exp: str = flag(
        "attention on [CLS]; on every token; on every token over the mapped teacher layer and those below",
        "alp-kd",
        choices=("alp-kd", "alp-kd-hidden", "alp-kd-hidden-v2"),
    )
    detach_target: bool = flag("keep the student's gradient out of its own targets' attention weights", False)


@dataclass
class LadProbeConfig(Checked):
    """The probe of LAD."""

    probing_exp: str = flag("experiment", choices=("lad_user_defined", "partial_lad", "lad_cls"))
    gate_indices: str | None = flag(
        "1-based gates whose aggregates are learned, such as 12,10,8", None, alias=("teacher_indices",)
    )
    student_indices: str | None = flag("1-based student layers that learn them, such as 6,5,4", None)


@dataclass
class PkdProbeConfig(Checked):
    """The probe of PKD."""

    probing_exp: str = flag("experiment", choices=("pkd_cls_user_defined", "pkd_hidden_user_defined"))
    teacher_indices: str = flag("1-based teacher layers that are learned, such as 3,4,6")
    student_indices: str | None = flag("1-based student layers that learn them, such as 6,5,4", None)
