"""The local stack: real Kafka, a real Redis-protocol server and all services as child processes.

ports (free ports, who holds one) · process (children that never outlive us) · jars, kafka, redis
(the two servers, without root, Docker or Java) · topology (the one description of all processes) ·
state (.rondo/state.json) · supervisor (order, restarts, logs, the end) · canary (warm-up).
"""
