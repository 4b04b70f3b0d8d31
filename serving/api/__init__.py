"""The HTTP API: lists out, events and records in, and what tells how the system is."""
