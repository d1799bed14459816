"""Campaigns: who is to get which message, and what became of it.

Owns: campaign and template definitions (validated here), runs and their counts, triggers, re-entry
memory, delayed triggers.
Consumes: commands, moves, decisions, deliveries, engagement, membership changes, contacts, member
events (stage "campaigns", state rondo.journeys.v1).
Emits: touches in three lanes with an end marker per partition, moves, each partition's share of a
run on rondo.runs.v1; by its gRPC side definitions and commands.
Serves: gRPC CampaignsService (definitions, start, pause, resume, cancel, trigger, send, runs).
"""
