"""Segmentation: who is in which segment, since when, until when, and why.

Owns: segments (definitions of kind segment), the rule language, live memberships.
Consumes: rondo.member-events, contacts, deliveries, engagement (facts), moves (histories of merged
members), commands (definition.activated).
Emits: rondo.membership-changes (entered, left, live), rondo.memberships (compacted), moves.
Serves: gRPC SegmentationService; health and metrics over HTTP.
Asks: the warehouse, and insights whether it is up to date, for previews; nothing that decides does.
"""
