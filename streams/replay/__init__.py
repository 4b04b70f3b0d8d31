"""Replays a data set through the running system and scores its lists."""
