"""Which templates are accepted. Pure.

Liquid is parsed, not rendered; includes are refused, so a template is complete by itself. MJML must
compile, first as a whole and then as Liquid, the order in which delivery uses it; nothing is loaded
from elsewhere. A line break or NUL in `from`, `subject` or `reply_to` would let a template write mail
headers and is refused.
"""

from collections.abc import Iterator
from email.utils import parseaddr
from functools import lru_cache
from typing import Any

import liquid
import mrml
import msgspec
from liquid.exceptions import LiquidError

from rondo_common.problems import Problem, from_validation, invalid
from services.campaigns.bodies import EmailPart, EmailVariant, TemplateBody, TextPart, Variant
from services.campaigns.campaign_rules import decode_object

_TITLE = "The template is not valid"
_HEADER_FIELDS = ("from", "subject", "reply_to")
_LOADING_TAGS = ("include", "render")
MOST_BYTES = 512 * 1024
"""Longest source of one part."""


@lru_cache(maxsize=1)
def _liquid() -> liquid.Environment:
    env = liquid.Environment()
    for tag in _LOADING_TAGS:
        env.tags.pop(tag, None)
    env.filters.pop("safe", None)
    return env


def parse_template(raw: bytes) -> tuple[TemplateBody, dict[str, Any]]:
    """A template and its body as sent. Problem 400 or 422 with pointers."""
    body = decode_object(raw)
    return check_template(body, _TITLE), body


def parse_content(raw: bytes, channel: str) -> dict[str, Any]:
    """Inline content of one message, in a template's shape. Problem 422 when it can't be used for
    `channel`."""
    body = decode_object(raw)
    template = check_template(body, "The content is not valid", prefix="/content")
    if channel not in template.channels():
        raise Problem(
            422,
            "invalid-content",
            "The content is not valid",
            f"It has no part for {channel}",
            [invalid(f"/content/{channel}", "required", f"the part for {channel}")],
        )
    return body


def check_template(body: dict[str, Any], title: str, prefix: str = "") -> TemplateBody:
    """The template in `body`, all of it checked; `prefix` is the pointer of the body."""
    try:
        template = msgspec.convert(body, TemplateBody)
    except msgspec.ValidationError as e:
        raise from_validation(e, prefix, title) from e
    found = [{**m, "pointer": prefix + m["pointer"]} for m in _mistakes(template)]
    if found:
        raise Problem(422, "invalid-template", title, found[0]["detail"], found)
    return template


def _mistakes(t: TemplateBody) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    if not t.channels():
        found.append(invalid("", "required", "a part for at least one of email, sms, messaging"))
    if not _is_locale(t.default_locale):
        found.append(invalid("/default_locale", "invalid", "a language such as en or fr-CA"))
    found.extend(_parts(t, ""))
    for locale, variant in t.locales.items():
        here = f"/locales/{locale.replace('~', '~0').replace('/', '~1')}"
        if not _is_locale(locale):
            found.append(invalid(here, "invalid", "a language such as fr or fr-CA"))
        found.extend(_parts(variant, here))
    return found


def _parts(t: TemplateBody | Variant, here: str) -> Iterator[dict[str, str]]:
    if t.email is not None:
        yield from _email(t.email, f"{here}/email", whole=isinstance(t.email, EmailPart))
    for channel in ("sms", "messaging"):
        part: TextPart | None = getattr(t, channel)
        if part is not None:
            pointer = f"{here}/{channel}/text"
            if not part.text.strip():
                yield invalid(pointer, "required", "the text of the message")
            yield from _source(part.text, pointer)


def _email(email: EmailPart | EmailVariant, here: str, whole: bool) -> Iterator[dict[str, str]]:
    for name, value in (("from", email.from_), ("subject", email.subject), ("reply_to", email.reply_to)):
        if value is None:
            continue
        if any(c in value for c in "\r\n\0"):
            yield invalid(f"{here}/{name}", "header_injection", "no line break and no NUL in a mail header")
        yield from _source(value, f"{here}/{name}")
        if name != "subject" and "{" not in value and "@" not in parseaddr(value)[1]:
            yield invalid(f"{here}/{name}", "invalid_address", "an address such as Shop <hi@example.com>")
    if whole and not (email.subject or "").strip():
        yield invalid(f"{here}/subject", "required", "a subject")
    if whole and not any((email.mjml, email.html, email.text)):
        yield invalid(here, "required", "one of mjml, html, text")
    if email.mjml and email.html:
        yield invalid(f"{here}/html", "not_allowed", "either mjml or html")
    for name in ("html", "text", "preheader"):
        if source := getattr(email, name):
            yield from _source(source, f"{here}/{name}")
    if email.mjml:
        yield from _mjml(email.mjml, f"{here}/mjml")


def _mjml(source: str, pointer: str) -> Iterator[dict[str, str]]:
    if len(source) > MOST_BYTES:
        yield invalid(pointer, "too_long", f"at most {MOST_BYTES} characters")
        return
    if "<mj-include" in source.lower():
        yield invalid(pointer, "not_allowed", "mj-include: a template is complete by itself")
        return
    try:
        made = mrml.to_html(source, mrml.ParserOptions(include_loader=mrml.noop_loader()), mrml.RenderOptions(fonts={}))
    except Exception as e:
        yield invalid(pointer, "invalid_mjml", str(e)[:300])
        return
    yield from _source(made.content, pointer)


def _source(text: str, pointer: str) -> Iterator[dict[str, str]]:
    if len(text) > MOST_BYTES:
        yield invalid(pointer, "too_long", f"at most {MOST_BYTES} characters")
        return
    if "{%" not in text and "{{" not in text:
        return
    env = _liquid()
    try:
        used = env.from_string(text).analyze()
    except LiquidError as e:
        place = e.context() if hasattr(e, "context") else None
        where = f" (line {place[0]})" if place else ""
        yield invalid(pointer, "invalid_liquid", f"{str(e).splitlines()[0][:200]}{where}")
        return
    except RecursionError:
        yield invalid(pointer, "invalid_liquid", "nested too deeply")
        return
    for name in sorted(used.filters):
        if name not in env.filters:
            yield invalid(pointer, "unknown_filter", f"there is no filter {name!r}")


def _is_locale(text: str) -> bool:
    parts = text.replace("_", "-").split("-")
    return len(text) <= 16 and 2 <= len(parts[0]) <= 3 and all(p.isascii() and p.isalnum() for p in parts)
