"""Insights: the warehouse.

Owns: the tables, fed exactly once by the topics. Consumes: everything that happened to members.
Serves: gRPC Insights (timelines, decisions, explanations, counts); the ClickHouse HTTP protocol with
the embedded engine behind it. It can be thrown away: the topics fill it again.
"""
