"""Grafana's boards, and what it provisions itself from."""
