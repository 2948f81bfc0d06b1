"""A part of a run: something that is trained, clipped and saved under names of its own."""

from torch import nn


class TrainedPart(nn.Module):
    """A module that a run can train: the student, or what makes its targets."""

    def saved(self) -> dict[str, nn.Module]:
        """Name what checkpoints hold of it, see `checkpoint.SAVED`: `NAME-STEP.pt` has the state of the module NAME."""
        return {"model": self}

    def clipped(self) -> list[nn.Module]:
        """List the modules whose gradients are clipped each by itself; together they are all that is trained."""
        return [self]

    def facts(self) -> dict[str, int]:
        """Give what its own configuration file holds beside flags."""
        return {}
