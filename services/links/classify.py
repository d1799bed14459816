"""Whether a person or a program followed a link. Pure.

Mail gateways follow every link of a message before a person sees it, and privacy proxies load every
picture; counted as people they spoil every number. What can't be told counts as a person.

The first link of a scan by a program that looks like a browser counts as a person, as it is written
before the others are seen; the rest of the scan does not.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

BURST_MS = 1_000
"""Nobody follows two different links of one message within this."""

_MOST_MESSAGES = 50_000
_PROXIES = ("googleimageproxy", "yahoomailproxy", "duckduckgo-favicons", "applemailprivacy")
_SCANNERS = (
    *("barracuda", "proofpoint", "mimecast", "messagelabs", "symantec", "fireeye", "trendmicro", "sophos"),
    *("safelinks", "cloudmark", "forcepoint", "ironport", "avast", "bitdefender", "kaspersky", "urlscan"),
)
_PREVIEWS = (
    *("facebookexternalhit", "whatsapp", "telegrambot", "twitterbot", "slackbot", "linkedinbot", "discordbot"),
    *("skypeuripreview", "bingpreview", "applebot", "google-safety", "mattermost", "iframely", "embedly"),
)
_PROGRAMS = re.compile(
    r"\b(?:curl|wget|libwww-perl|python-requests|python-urllib|python-httpx|aiohttp|go-http-client|okhttp|java|axios"
    r"|node-fetch|undici|headlesschrome|phantomjs|puppeteer|playwright|scrapy|apache-httpclient)\b"
    r"|bot\b|crawler|spider|scanner|link-protection|link ?check"
)
_BARE = frozenset(("mozilla/5.0", "mozilla/4.0"))
"""Apple's Mail Privacy Protection loads pictures with nothing but this."""


class Actor(NamedTuple):
    """human or machine, and the rule that said so ("" for human)."""

    actor: str
    rule: str


HUMAN = Actor("human", "")


def classify(method: str, headers: Mapping[str, str], burst: bool) -> Actor:
    """Who made a request. `headers` with lower-case names; `burst`: other links of the same message
    were followed just before."""
    agent = headers.get("user-agent", "").strip().lower()
    purpose = " ".join(headers.get(h, "") for h in ("purpose", "sec-purpose", "x-purpose", "x-moz")).lower()
    if method == "HEAD":
        return Actor("machine", "head_request")
    if not agent:
        return Actor("machine", "no_user_agent")
    if "prefetch" in purpose or "preview" in purpose or "prerender" in purpose:
        return Actor("machine", "prefetch")
    if agent in _BARE:
        return Actor("machine", "bare_user_agent")
    for rule, names in (("image_proxy", _PROXIES), ("scanner", _SCANNERS), ("preview", _PREVIEWS)):
        if any(name in agent for name in names):
            return Actor("machine", rule)
    if _PROGRAMS.search(agent):
        return Actor("machine", "program")
    return Actor("machine", "burst") if burst else HUMAN


class Recent:
    """Links followed within the last second, by message. Keeps a bounded number of messages."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, dict[str, int]] = OrderedDict()

    def burst(self, touch_id: str, link: str | None, now: int) -> bool:
        """Note that `link` (None: the pixel) of a message was followed at `now` (ms of any clock that
        runs); whether that belongs to a burst: another link, or for the pixel two, within a second."""
        links = {u: at for u, at in self._seen.pop(touch_id, {}).items() if now - at < BURST_MS}
        others = len(links) - (link in links)
        if link is not None:
            links[link] = now
        if links:
            self._seen[touch_id] = links
            if len(self._seen) > _MOST_MESSAGES:
                self._seen.popitem(last=False)
        return others >= (2 if link is None else 1)
