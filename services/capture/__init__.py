"""Capture: a mail server, SendGrid, Twilio and Telegram that deliver nothing.

Owns: the messages it took (in memory, appended to inbox.log in the data folder).
Consumes: SMTP and the providers' HTTP, on sockets of its own. It knows nothing of delivery: what it
knows of a message stands in the message (Message-ID, X-SMTPAPI, custom_args, callback query).
Emits: the providers' signed callbacks and inbound messages to the public door; rondo.captured.v1.
Serves: HTTP inbox API (WIRE 9), health. Magic addresses produce every path a provider can take.
"""
