"""Suites: methods x seeds on a task, run where missing, tested against each other, reported."""
