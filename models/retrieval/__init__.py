"""Candidates: indexes, neighbours, the linear sequence model, and the sources that use them."""
