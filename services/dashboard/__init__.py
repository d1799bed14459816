"""The web pages: live operations, the sandbox's inbox, conversations.

Owns: nothing that lasts; one sample of the whole installation, made anew every second.
Consumes: no topic; it asks processes (/readyz, /metrics), the gateway (runs, conversations, inbox) and
the broker's offsets. Emits: nothing. Serves: HTTP pages, and the live page's server-sent events.

One collector asks, however many people look: collector -> snapshot -> fragments of HTML, made once a
sample -> every open page. The admin key stays in this process: no page carries it.
"""
