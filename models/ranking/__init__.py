"""Ranking: what is told of a candidate, and the models that turn it into an order, a probability and minutes."""
