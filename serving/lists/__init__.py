"""Lists: the engine that makes them with the model in service."""
