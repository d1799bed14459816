"""Links: the public addresses in messages.

Owns: nothing; every address carries a signed token that says all (rondo_common.links).
Consumes: nothing.
Emits: engagement (opened, clicked, unsubscribed), each with actor human or machine.
Serves: HTTP, public: /l/{token} leads to the signed address, /o/{token}.gif is the open pixel,
/u/{token} is the unsubscribe form (GET) and one-click unsubscribe (POST, RFC 8058).
"""
