"""What starts the system: the embedded broker and Redis, images and compose files."""
