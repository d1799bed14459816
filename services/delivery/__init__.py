"""Delivery: one worker process per channel (delivery-email, delivery-sms, delivery-messaging).

Owns: the last gate before a call, rendering, provider calls, retries, the outcome of each send.
Consumes: rondo.commands.v1, rondo.contacts.v1, rondo.profiles.v1, rondo.deliveries.v1 (callbacks that
settle an unknown outcome), rondo.sends.<channel>.<lane>.v1.
Emits: rondo.deliveries.v1; its state is rondo.sends-state.v1.
Serves: gRPC Delivery (Render, Status).

A send goes: gate -> render -> written ahead as `submitting` in one fenced transaction -> call ->
recorded. Owning the partition is the claim. A call whose answer never came is `unknown`, never
repeated in silence; marks in Redis (marks.py) tell, after a kill, calls that surely had not begun.
"""
