"""State in Redis: users, the item catalogue, trends, the status of each role."""
