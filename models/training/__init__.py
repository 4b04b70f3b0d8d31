"""One training: its context, the replay of the log, the gate."""
