"""Kafka: the Faust apps with their batch transport, dead letters, sending."""
