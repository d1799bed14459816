"""Insights: the warehouse.

Owns: the tables, each fed exactly once by its topic. They can be thrown away: the topics fill them again.
Consumes: everything that happened to members (the topics of tables.py).
Emits: nothing.
Serves: gRPC InsightsService (timelines, decisions, counts of a run); the ClickHouse HTTP protocol with
the embedded engine behind it; health and metrics.
"""
