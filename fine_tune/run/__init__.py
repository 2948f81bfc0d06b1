"""A training run: how it starts, what it checks, how it is written down and resumed."""
