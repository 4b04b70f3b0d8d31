"""Experiments: who gets what, and what came of it."""

from serving.lists.assignment import Arm, Experiments

__all__ = ["Arm", "Experiments"]
