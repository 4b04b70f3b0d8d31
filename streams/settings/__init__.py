"""The settings: one typed object, read once and passed down."""
