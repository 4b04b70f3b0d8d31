"""The worker: agents that ingest events and refresh lists."""
