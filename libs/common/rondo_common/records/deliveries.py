"""What became of a send, and what the member did with it."""

import msgspec


class Delivery(msgspec.Struct, omit_defaults=True):
    """An outcome of a send, on rondo.deliveries.v1.

    `status` from delivery: accepted, rejected, unknown (outcome_unknown), returned (not sent in its
    window, to be decided again), cancelled (its campaign was). From callbacks: delivered, bounced,
    complained, deferred. `reason` is a code: hard_bounce, soft_bounce, timeout, connection_lost,
    worker_lost, template_abort, no_address, consent_denied ... `settled` true on the record that
    settles an earlier unknown.
    """

    workspace: str
    id: str
    touch_id: str
    member_id: str
    channel: str
    provider: str
    status: str
    at: str
    attempt: int = 1
    campaign: str = ""
    run_id: str = ""
    version: int = 0
    step: str = "main"
    lane: str = ""
    topic: str = ""
    class_: str = msgspec.field(name="class", default="")
    reason: str | None = None
    detail: str | None = None
    provider_id: str | None = None
    address_id: str | None = None
    """Id of the address it went to, so that a bounce suppresses that address only."""
    permanent: bool = False
    settled: bool = False
    conversation_id: str | None = None


class Engagement(msgspec.Struct, omit_defaults=True):
    """What a member (or a machine) did with a message, on rondo.engagement.v1. `kind`: opened,
    clicked, unsubscribed, preferences. `actor`: human or machine."""

    workspace: str
    id: str
    kind: str
    member_id: str
    at: str
    actor: str = "human"
    touch_id: str | None = None
    campaign: str | None = None
    run_id: str | None = None
    channel: str | None = None
    topic: str | None = None
    link: str | None = None
    data: msgspec.Raw = None  # type: ignore[assignment]


class SendState(msgspec.Struct, omit_defaults=True):
    """State of one send in a delivery worker, on rondo.sends-state.v1, keyed o:<send id>.

    `status`: queued, held (campaign paused), submitting (written ahead of the call), retry (provider
    surely did not take it), unknown, then final: accepted, rejected, returned, cancelled.
    """

    status: str
    send: msgspec.Raw
    at: int
    """ms of the last change."""
    calls: int = 0
    """Provider calls written ahead so far, over all attempts; names the call an answer belongs to."""
    provider: str | None = None
    provider_id: str | None = None
    reason: str | None = None
    attempt: int = 1
    """Attempt of the gate's decision this state belongs to."""
    tries: int = 0
    """Calls that the provider itself answered with "later"."""
    gen: int = 0
    """Generation of the partition's ownership that wrote `submitting`."""
    doubted: bool = False
    """Was unknown once: the record that settles it says so."""
    confirmed: bool = False
    """A callback came while the call was still open: the provider has it."""
    to: str | None = None
    """Where the last call went and what it said (digest): only where the provider can be asked."""
    digest: str | None = None
