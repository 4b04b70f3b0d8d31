"""The dashboard: what the loop does, live, and what can be done about it, on the port of the HTTP API."""
