"""What each address takes and answers, as data for /openapi.json, a module a noun."""

from services.gateway.contract import members, rules, running, sending, system
from services.gateway.contract.parts import Operation

OPERATIONS: dict[tuple[str, str], Operation] = {
    **members.OPERATIONS,
    **rules.OPERATIONS,
    **sending.OPERATIONS,
    **running.OPERATIONS,
    **system.OPERATIONS,
}
"""(method in lower case, path) to what is said about it."""
SCHEMAS = {**rules.SCHEMAS, **sending.SCHEMAS}
"""Schemas that others refer to by name."""
