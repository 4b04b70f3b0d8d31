"""The quality of lists on logs and in simulated worlds."""
