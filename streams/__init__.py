"""Events in: the wire contract, the Faust agents, state in Redis, the sample log, the trainer and the replay."""
