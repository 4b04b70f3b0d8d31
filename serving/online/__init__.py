"""What users make of their lists, counted while it happens."""
