"""A student narrower or wider than its teacher: one learned linear map takes its hidden states to the teacher's width.

The map belongs to the losses, not to the student: it is trained with it and left behind, no checkpoint holds it.
Source: Jiao et al. 2020 (TinyBERT), section 3: one matrix for the hidden states of all layers.
Departures: an addition; the released LAD code wants equal widths.
"""

from torch import Tensor, nn

from fine_tune.model.classifier import Classifier, Output
from fine_tune.model.part import TrainedPart


class ProjectedStudent(TrainedPart):
    """A student whose hidden states come out in the teacher's width.

    The map starts at random, as TinyBERT's other new layers do: N(0, 0.02^2), bias 0.

    Args:
        classifier: The student.
        width: D of the teacher.
    """

    def __init__(self, classifier: Classifier, width: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.projection = nn.Linear(classifier.width, width)
        nn.init.normal_(self.projection.weight, std=0.02)
        nn.init.zeros_(self.projection.bias)

    def saved(self) -> dict[str, nn.Module]:
        """Name what checkpoints hold of it: the student alone."""
        return self.classifier.saved()

    def clipped(self) -> list[nn.Module]:
        """List the modules whose gradients are clipped each by itself."""
        return [self.classifier, self.projection]

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor) -> Output:
        """Classify a batch, see `Classifier.forward`; hidden states (B, S, D of the teacher)."""
        out: Output = self.classifier(input_ids, attention_mask, token_type_ids)
        return out._replace(hidden_states=tuple(self.projection(state.float()) for state in out.hidden_states))


def without_projection(student: nn.Module) -> nn.Module:
    """Give the student itself."""
    return student.classifier if isinstance(student, ProjectedStudent) else student
