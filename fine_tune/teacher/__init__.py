"""Teachers as the loops see them: what can be asked of one, a live model, its outputs on disk."""
