"""Provider callbacks: one module per provider that verifies, parses, and turns what came into the
common records. They decide nothing: what a bounce or a STOP means is up to their readers.

A bad signature is 403 without detail, and nothing enters. A 2xx is given after Kafka's
acknowledgement, so a provider repeats what was not kept; ids come from the provider's own, so a
repeat is recognised.

One provider account serves one installation: records belong to the workspace that signed data names
(`w` in custom arguments or in the callback's query), else to the installation's own.
"""
