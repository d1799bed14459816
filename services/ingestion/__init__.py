"""Ingestion: the public door.

Owns: the Segment-compatible HTTP API, file imports, provider callbacks and inbound messages.
Consumes: rondo.definitions.v1 (issued keys only).
Emits: rondo.events.v1, rondo.events.rejected.v1, rondo.deliveries.v1, rondo.engagement.v1,
rondo.inbound.v1, all with acks=all; a 2xx is given after the acknowledgement.
Serves: POST /v1/{identify,track,page,screen,group,alias,batch,import}, /v1/imports,
/v1/callbacks/..., /healthz, /readyz, /metrics.

Needs Kafka and nothing else: every other service, and Redis, may be down.
"""
