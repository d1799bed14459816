"""The names of topics. What lies in each stands in `catalogue`."""

LANES = ("transactional", "triggered", "bulk")
CHANNELS = ("email", "sms", "messaging", "social")

EVENTS = "rondo.events.v1"
REJECTED = "rondo.events.rejected.v1"
ROUTED = "rondo.routed.v1"
LINKS = "rondo.links.v1"
IDENTITIES = "rondo.identities.v1"
MEMBER_EVENTS = "rondo.member-events.v1"
PROFILES = "rondo.profiles.v1"
CONTACTS = "rondo.contacts.v1"
CONSENTS = "rondo.consents.v1"
SEGMENTATION_STATE = "rondo.segmentation-state.v1"
MEMBERSHIPS = "rondo.memberships.v1"
MEMBERSHIP_CHANGES = "rondo.membership-changes.v1"
DEFINITIONS = "rondo.definitions.v1"
COMMANDS = "rondo.commands.v1"
RUNS = "rondo.runs.v1"
JOURNEYS = "rondo.journeys.v1"
RHYTHM = "rondo.rhythm.v1"
DECISIONS = "rondo.decisions.v1"
SENDS_STATE = "rondo.sends-state.v1"
DELIVERIES = "rondo.deliveries.v1"
ENGAGEMENT = "rondo.engagement.v1"
INBOUND = "rondo.inbound.v1"
COMMUNITY = "rondo.community.v1"
COMMUNITY_WORK = "rondo.community-work.v1"
MOVES = "rondo.moves.v1"
EGRESS_STATE = "rondo.egress-state.v1"
CAPTURED = "rondo.captured.v1"
CRM_EVENTS = "rondo.crm.events.v1"
AUDIT = "rondo.audit.v1"


def touches(lane: str) -> str:
    """Topic of intended messages of a lane."""
    return f"rondo.touches.{lane}.v1"


def sends(channel: str, lane: str) -> str:
    """Topic of let-through messages of a channel and lane."""
    return f"rondo.sends.{channel}.{lane}.v1"


def dlq(topic: str) -> str:
    """Dead-letter topic of `topic`."""
    return f"{topic}.dlq"
