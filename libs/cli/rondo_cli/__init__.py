"""The `rondo` command: the local stack and the operators' tools.

Owns .rondo/ (state, logs and data of the local stack). Talks to Kafka through kafka-python only, to
services through their HTTP addresses in .rondo/state.json.
"""
