"""Gateway: the REST API.

Owns: who may do what (keys, scopes), idempotency of POST, paging, problem documents, the audit log.
Consumes: rondo.definitions.v1 (keys, webhooks, workspaces). Emits: rondo.audit.v1, commands about
members. Serves: HTTP. Everything it answers it asks of the services by gRPC; events go in through
ingestion, as everybody's do.
"""
