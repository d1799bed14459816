"""What is common to providers called by HTTP: which failures leave the outcome open."""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import httpx

from services.delivery.model import Answer, Verdict

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL)


KEPT_S = 4.0
"""How long an idle connection is kept: less than servers keep theirs (the shortest usual time is 5 s). One that the
server closes at the moment of a call leaves that call's outcome unknown."""


def client(connect_timeout: float, timeout: float, connections: int) -> httpx.AsyncClient:
    """A client with kept connections. No redirects: a provider's answer is its answer."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(timeout, connect=connect_timeout),
        limits=httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEPT_S
        ),
        follow_redirects=False,
        trust_env=False,
    )


async def post(
    http: httpx.AsyncClient, provider: str, url: str, content: bytes, headers: Mapping[str, str]
) -> httpx.Response | Answer:
    """The response, or the Answer that a failure on the way means. A kept connection that the provider
    closed just before is also `connection_lost`: whether it read the request first is not known."""
    try:
        return await http.post(url, content=content, headers=dict(headers))
    except _NOT_SENT as e:
        return Answer(Verdict.NOT_SENT, provider, reason="connection_failed", detail=type(e).__name__)
    except httpx.TimeoutException as e:
        return Answer(Verdict.UNKNOWN, provider, reason="timeout", detail=type(e).__name__)
    except httpx.HTTPError as e:
        return Answer(Verdict.UNKNOWN, provider, reason="connection_lost", detail=type(e).__name__)


def retry_after(headers: Mapping[str, str], now: float) -> int | None:
    """Retry-After in ms; `now` (seconds since 1970) for the form with a date."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return int(value) * 1000
    try:
        return max(0, round((parsedate_to_datetime(value).timestamp() - now) * 1000)) if value else None
    except ValueError:
        return None


def server_failure(provider: str, status: int) -> Answer:
    """5xx: the provider failed while it had the request; it may have taken the message."""
    return Answer(Verdict.UNKNOWN, provider, reason="provider_error", detail=f"HTTP {status}")
