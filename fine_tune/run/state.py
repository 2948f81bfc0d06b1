"""The state of a run between two updates, `state.pt`: an interrupted run resumes from it to the last bit (`--resume`).

It holds what later updates depend on: weights, moments, schedules, loss scale, the generators of every process, the
log entry under way. It does not hold the place in the data: batches are a pure function of the update (`batches`), and
the micro-batches of an update that was under way are made again.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fine_tune.files import first_line, write_whole
from fine_tune.hardware import distributed, rank
from fine_tune.run.optim import Updater

STATE = "state.pt"


class Snapshot:
    """Takes and restores the state of a run.

    Args:
        run_dir: Its folder.
        models: What is trained, not wrapped for several processes.
        updater: Of those models.
    """

    def __init__(self, run_dir: Path, models: Iterable[nn.Module], updater: Updater) -> None:
        self.file = run_dir / STATE
        self.updater = updater
        self.weights = [weights for model in models for weights in model.parameters() if weights.requires_grad]
        self.gpus = sorted({weights.device.index for weights in self.weights if weights.device.type == "cuda"})

    def save(self, step: int, log: dict[str, Any]) -> None:
        """Write the state after update `step`; all processes take part.

        Args:
            step: The update.
            log: What this process's records need in order to continue.
        """
        generators = [torch.cuda.get_rng_state(gpu) for gpu in self.gpus]
        mine = {"generator": torch.get_rng_state(), "gpu_generators": generators, "log": log}
        state = {
            "step": step,
            "weights": [weights.detach() for weights in self.weights],
            "updater": self.updater.state_dict(),
            "processes": distributed.gather(mine),
        }
        write_whole(self.file, partial(torch.save, state))
        distributed.barrier()  # no process ends the run while the first one writes

    def load(self) -> tuple[int, dict[str, Any]]:
        """Restore the state; give the update after which it was taken, and what the records need.

        Raises:
            ValueError: The file is damaged, or of another run.
        """
        try:
            state = torch.load(self.file, map_location="cpu", weights_only=True)
            mine = state["processes"][rank.rank()]
            assert len(state["processes"]) == rank.world_size()
            with torch.no_grad():
                for weights, value in zip(self.weights, state["weights"], strict=True):
                    weights.copy_(value)
            self.updater.load_state_dict(state["updater"])
            torch.set_rng_state(mine["generator"])
            for gpu, generator in zip(self.gpus, mine["gpu_generators"], strict=True):
                torch.cuda.set_rng_state(generator, gpu)  # GPUs may have other numbers by now
            return int(state["step"]), mine["log"]
        except Exception as error:  # torch.load raises half a dozen types for a damaged file
            why = first_line(error)
            raise ValueError(f"{self.file}: no state of this run: {why}; --overwrite begins anew") from None
