"""Lists out: candidates, the refresh agent, publication and the command line."""
