"""What the methods with gates share around their loops: shape, start and watch of the gates."""

import logging
from typing import Any

from fine_tune.data.batches import updates
from fine_tune.flags.shared import RunConfig
from fine_tune.model.gate import Gates, GateShape, calibrate
from fine_tune.run.start import Prepared
from fine_tune.teacher.protocol import Needs, Teacher
from fine_tune.train.methods import METHODS, GateConfig

logger = logging.getLogger(__name__)

COLLAPSED = 0.8
"""Share of its first value below which the spread of the gates' targets is told, see `model.gate.spread`.

SST-2, one epoch: 1.0 at the published rate of the gates, 1e-6; 0.6 at 1e-3, where the gates close.
"""


def gate_shape(run: Prepared, tokens: int | None = None) -> GateShape:
    """Give the shape of gate blocks; build them after the student, so that it does not depend on them.

    Args:
        run: The run.
        tokens: Positions of the layer norm; None for those of the run's inputs.
    """
    cfg, length = run.flags[GateConfig], tokens or run.rows.max_seq_len
    return GateShape(run.teacher.model.width, length, cfg.gate_norm, cfg.gate_init_bias)


def gates_need(run: Prepared, gates: Gates) -> Needs:
    """State what the gates need of a teacher: logits and the layers they read; warn of layers that no gate reads."""
    return Needs(METHODS[run.flags.method].needs, gates.reads, every=True)


def start_norms(run: Prepared, gates: Gates, teacher: Teacher) -> None:
    """With `--gate_norm_init teacher`, let the gates' norms start at the scale of the teacher's layers."""
    if run.flags[GateConfig].gate_norm_init == "teacher":
        cfg, length = run.flags[RunConfig], gates.shape.seq_length
        padded = run.rows.max_seq_len if cfg.pad_to_max else None
        (batch,) = next(updates(run.rows, batch_size=cfg.batch_size, seed=cfg.seed, pad_to=padded))
        states = {layer: state[:, :length] for layer, state in teacher(batch).states.items()}
        calibrate(gates.blocks, states, batch.mask if length > 1 else None)


class SpreadWatch:
    """Warn once if the gates' targets collapse: if their spread falls below `COLLAPSED` times the first one."""

    def __init__(self) -> None:
        self.first_spread: float | None = None
        self.warned = False

    def __call__(self, step: int, means: dict[str, float]) -> None:
        """Look at the means of a log entry."""
        spread = means["target_spread"]
        if self.first_spread is None:
            self.first_spread = spread
        if spread < COLLAPSED * self.first_spread and not self.warned:
            logger.warning(
                "by update %d the gates' targets differ %.0f %% less than at first: they collapse to what is easy to "
                "match; lower --gate_lr or raise --gate_init_bias",
                *(step, 100 * (1 - spread / self.first_spread)),
            )
            self.warned = True

    def state(self) -> dict[str, Any]:
        """Give what `restore` needs."""
        return {"first_spread": self.first_spread, "warned": self.warned}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.first_spread = state["first_spread"]
        self.warned = state.get("warned", self.first_spread == 0)  # older states noted a warning as 0
