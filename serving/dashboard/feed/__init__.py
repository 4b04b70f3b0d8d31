"""What the dashboard shows: figures that follow the topics."""
