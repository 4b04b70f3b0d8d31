"""The command line: `millstream`, and `python -m serving.cli`."""
