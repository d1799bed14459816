"""Reading a mail: its parts, links, pixel and what it says of its cause. Pure."""

import email
import email.policy
import json
import re
from email.message import EmailMessage
from html.parser import HTMLParser

from services.capture.model import Message


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a" and found.get("href"):
            self.links.append(found["href"] or "")
        if tag == "img" and found.get("src"):
            self.images.append(found["src"] or "")


def links_of(html: str | None, text: str) -> tuple[list[str], str | None]:
    """Links of the HTML (else of the text), and the open pixel: the image whose path is /o/."""
    if html:
        parser = _Links()
        parser.feed(html)
        pixel = next((i for i in parser.images if "/o/" in i), None)
        return [link for link in parser.links if link.startswith(("http://", "https://"))], pixel
    return re.findall(r"https?://[^\s<>\"]+", text), None


def unsubscribe_of(headers: dict[str, str]) -> str | None:
    """The https or http URL of a List-Unsubscribe header."""
    found = re.search(r"<(https?://[^>]+)>", headers.get("List-Unsubscribe", ""))
    return found[1] if found else None


def read_mail(raw: bytes, sender: str, to: str, id: str, received_at: str, at: int) -> Message:
    """The message in a mail as received."""
    mail: EmailMessage = email.message_from_bytes(raw, policy=email.policy.default)  # type: ignore[assignment]
    headers = {k: str(v) for k, v in mail.items()}
    html_part = mail.get_body(("html",))
    text_part = mail.get_body(("plain",))
    html = html_part.get_content() if html_part else None
    text = text_part.get_content() if text_part else ""
    args: dict[str, str] = {}
    try:
        given = json.loads(re.sub(r"\s*\n\s*", "", headers.get("X-SMTPAPI", "{}"))).get("unique_args", {})
        args = {k: str(v) for k, v in given.items()}
    except (ValueError, AttributeError):
        pass
    links, pixel = links_of(html, text)
    message_id = headers.get("Message-ID")
    if "t" not in args and message_id:
        args["t"] = message_id.strip("<> ").partition("@")[0]
    return Message(
        id=id,
        channel="email",
        provider="smtp",
        provider_id=message_id or id,
        sender=sender,
        to=to,
        received_at=received_at,
        at=at,
        args=args,
        subject=headers.get("Subject"),
        text=text,
        html=html,
        headers=headers,
        links=links,
        size=len(raw),
        pixel=pixel,
        unsubscribe=unsubscribe_of(headers),
        message_id=message_id,
        raw=raw,
    )
