"""What people define: campaigns, segments, templates, policies, runs, keys, webhooks, workspaces."""

import msgspec


class Definition(msgspec.Struct, omit_defaults=True):
    """One version of a definition, on rondo.definitions.v1, keyed workspace:kind:id:version.

    `kind`: segment, campaign, template, quiet_hours, budget, conflict, run, control (whether a
    campaign is active, paused or cancelled), key, webhook, workspace.
    `body` is the definition as JSON, as validated by its owner.
    """

    workspace: str
    kind: str
    id: str
    version: int
    body: msgspec.Raw
    created_at: str
    created_by: str = ""
    deleted: bool = False
