"""Calling webhooks: Standard Webhooks 1.0. The effector of the egress stage.

webhook-id is the event's id and the same over repeats; webhook-timestamp is of this attempt. A 2xx
within 15 s is taken as received, a redirect is a failure, 410 means the receiver wants no more.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
from standardwebhooks.webhooks import Webhook as Signer

from rondo_common.clock import Clock
from rondo_common.outcomes import Perform
from rondo_common.settings import Settings
from rondo_common.streams.effector import AsyncEffector, Claim
from rondo_common.webhook_secrets import webhook_secret
from services.egress.addresses import Refused, check
from services.egress.model import Answer, Call

TIMEOUT_S = 15.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class WebhookEffector(AsyncEffector):
    """Makes the calls. Private addresses are reached only by an installation that is itself on
    loopback (a local stack)."""

    def __init__(self, settings: Settings, clock: Clock):
        super().__init__(concurrency=64, limit=1000)
        self._secret = settings.secret
        self._clock = clock
        self._allow_private = urlsplit(settings.public_url).hostname in _LOOPBACK
        self._http: Any = None

    async def opened(self) -> None:
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=32)
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, limits=limits)

    async def closed(self) -> None:
        await self._http.aclose()

    async def perform(self, perform: Perform, claim: Claim) -> Answer:
        call: Call = perform.task
        try:
            ip, host, port = await asyncio.to_thread(check, call.url, self._allow_private)
        except Refused as e:
            return Answer(False, detail=str(e))
        at = datetime.fromtimestamp(self._clock.now() // 1000, UTC)
        headers = {
            "content-type": "application/json",
            "host": host if port in (80, 443) else f"{host}:{port}",
            "user-agent": "Rondo-Webhooks/1",
            "webhook-id": call.event_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": self._signatures(call, at),
        }
        parts = urlsplit(call.url)
        place = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
        url = urlunsplit((parts.scheme, place, parts.path or "/", parts.query, ""))
        try:
            answer = await self._http.post(url, content=call.body, headers=headers, extensions={"sni_hostname": host})
        except httpx.HTTPError as e:
            return Answer(False, detail=type(e).__name__)
        return Answer(200 <= answer.status_code < 300, answer.status_code, answer.status_code == 410)

    def _signatures(self, call: Call, at: datetime) -> str:
        """The webhook-signature header: while a secret is being replaced, one by each of the two."""
        generations = [call.secret_generation]
        if self._clock.now() < call.old_secret_until:
            generations.append(call.secret_generation - 1)
        secrets = (webhook_secret(self._secret, call.workspace, call.webhook, g) for g in generations)
        return " ".join(Signer(secret).sign(call.event_id, at, call.body.decode()) for secret in secrets)
