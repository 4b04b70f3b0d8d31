"""Offline evaluation: splits, baselines, and the cache of fitted models."""
