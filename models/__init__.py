"""What is learned: training data, sequence model, two towers, blend, index and artefacts.

Torch, numpy and faiss alone; nothing here knows Kafka, Redis or HTTP.
"""
