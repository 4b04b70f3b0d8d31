"""What models learn from: interactions with their labels, users, item facts, popularity, the calendar."""
