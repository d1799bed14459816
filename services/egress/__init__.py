"""Egress: the contract with CRMs.

Owns: the mapping from what happened inside to the public events, and the queue of webhooks.
Consumes: member events, membership changes, decisions, deliveries, engagement, conversations, contacts
(for the user id CRMs know), webhook definitions (stage "egress", state rondo.egress-state.v1).
Emits: rondo.crm.events.v1 and the same bytes as signed webhooks (Standard Webhooks 1.0).
Serves: health and metrics over HTTP; nobody asks it anything.
"""
