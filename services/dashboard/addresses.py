"""Where the processes are: from the stack's state document (WIRE 1), or from the setting. Pure."""

from typing import Any

from services.dashboard.model import Place


def from_state(state: dict[str, Any]) -> list[Place]:
    """Every instance of every process of a running stack, capture among them. KeyError or TypeError for
    a document of another shape."""
    found = dict(state["services"])
    if "instances" in state.get("capture", {}):
        found["capture"] = state["capture"]
    return [
        Place(
            name,
            str(instance.get("slot", number)),
            str(instance["metrics"]).removesuffix("/metrics"),
            str(instance.get("note") or ""),
        )
        for name, service in found.items()
        for number, instance in enumerate(service["instances"])
    ]


def from_setting(services: str, capture: str = "") -> list[Place]:
    """RONDO_SERVICES, "name=url,...", one instance each; `capture` is the sandbox's address, if any."""
    pairs = (pair.strip().partition("=") for pair in services.split(",") if pair.strip())
    found = [Place(name, "0", url.rstrip("/")) for name, _, url in pairs if url]
    return [*found, Place("capture", "0", capture)] if capture and found else found


def servers(state: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, status) of the stack's own Kafka and Redis."""
    return [(name, str(s.get("status", ""))) for name, s in (state.get("servers") or {}).items()]
