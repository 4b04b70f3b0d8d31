"""A small single-node Kafka broker: one process, one thread, one data folder, the loopback alone.

It is what `embedded://` runs. It speaks the protocol's own messages (kafka-python's schemas), keeps record batches as
they come in append-only files, and coordinates consumer groups by the classic protocol. Transactions, SASL, TLS,
replication, quotas and fetch sessions are not its business: whoever needs them runs Kafka.
"""
