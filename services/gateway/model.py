"""Who is asking, and what they may do."""

import msgspec

SCOPES = ("members", "segments", "campaigns", "send", "policies", "inbox", "conversations", "reports", "admin")
"""Each exists as :read and :write; write includes read, admin:write includes everything."""


class Principal(msgspec.Struct, frozen=True):
    """The holder of a key: workspace, key id (as the actor of what it does), scopes."""

    workspace: str
    actor: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether `scope`, such as "segments:read", is granted."""
        area, _, verb = scope.partition(":")
        return (
            scope in self.scopes
            or "admin:write" in self.scopes
            or (verb == "read" and f"{area}:write" in self.scopes)
        )


def known_scopes() -> set[str]:
    """Every scope there is."""
    return {f"{area}:{verb}" for area in SCOPES for verb in ("read", "write")}
