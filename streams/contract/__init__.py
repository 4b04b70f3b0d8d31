"""The message contract: events, their schemas, and the topics that carry them."""
