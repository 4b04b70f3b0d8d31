"""RecTools' models and metrics, to compare with."""
