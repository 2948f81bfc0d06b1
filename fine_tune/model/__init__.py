"""Teacher and student (`classifier`), the gates of LAD (`gate`), and how a student starts (`init`)."""

from fine_tune.model.gate import HighwayGate

__all__ = ["HighwayGate"]
