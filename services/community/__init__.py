"""Community: conversations with members.

Owns: conversations, from the first message of a member to the operator's closing; their log is
rondo.community.v1 itself. Consumes: rondo.inbound.v1 and its own work topic, with Faust inside its
fences (rondo_common.faust_safe). Emits: rondo.community.v1 (the gate holds a member's campaigns while a
conversation is open), operators' answers as send commands. Serves: gRPC Community.
"""
