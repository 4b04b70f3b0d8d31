"""The trainer: sample log, training jobs and the process that runs one."""
