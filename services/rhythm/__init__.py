"""Rhythm: the gate. One decision for every intended message: now, later or never, and why.

Owns: policies (quiet hours, budgets, conflict), each member's agenda of waiting touches and ledger of
what was sent, holds by open conversations.
Consumes: touches of the three lanes, commands, contacts, moves, community, deliveries (stage
"rhythm", state rondo.rhythm.v1).
Emits: decisions, sends per channel and lane, moves; by its gRPC side definitions and commands.
Serves: gRPC RhythmService (policies, a member's budget and agenda).
"""
