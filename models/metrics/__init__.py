"""Metrics of retrieval and of lists."""
