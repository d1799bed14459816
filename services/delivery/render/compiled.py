"""A template version, compiled once for a channel and a language. Pure."""

from typing import Any

import css_inline
import mrml

from rondo_common.links import Link, Signer
from services.delivery.render.html import text_of, with_open_pixel, with_tracked_links
from services.delivery.render.liquid import HTML, TEXT, Fragment, TemplateError

_PARTS = ("mjml", "html", "text")
_inliner = css_inline.CSSInliner(load_remote_stylesheets=False, keep_at_rules=True)


class Rendered:
    """A rendered template. E-mail alone has `subject`, `sender` and `html`. The pieces are those of `text`
    and `html`, in order (quick.Fixed: the same in every message)."""

    __slots__ = ("html", "html_pieces", "sender", "subject", "text", "text_pieces")

    def __init__(self, text: tuple[str, list[str]], html: tuple[str, list[str]], subject: str = "", sender: str = ""):
        self.text, self.text_pieces = text
        self.html, self.html_pieces = html
        self.subject = subject
        self.sender = sender


class Addresses:
    """The signed addresses in one message to one member, each made once and only when used."""

    __slots__ = ("_base", "_made", "_series")

    def __init__(self, signer: Signer, base: str, link: Link):
        self._series = signer.series(link)
        self._base = base
        self._made: dict[str, str] = {}

    def _url(self, kind: str, url: str = "") -> str:
        found = self._made.get(url or kind)
        if found is None:
            found = self._made[url or kind] = self._series.url(self._base, kind, url)
        return found

    @property
    def unsubscribe(self) -> str:
        return self._url("unsubscribe")

    @property
    def open(self) -> str:
        return self._url("open")

    def track(self, target: str) -> str:
        """The tracked address of a web address; anything else, and our own links, as they are."""
        if not target.startswith(("http://", "https://")) or target.startswith(f"{self._base}/u/"):
            return target
        return self._url("click", target)


def locale_chain(locale: str | None, default: str | None) -> list[str]:
    """Languages to try, best first, lower case: fr-FR, fr, then the template's default."""
    chain: list[str] = []
    for tag in (locale, default):
        tag = (tag or "").replace("_", "-").lower()
        while tag:
            if tag not in chain:
                chain.append(tag)
            tag = tag.rpartition("-")[0]
    return chain


def content_of(body: dict[str, Any], channel: str, locale: str | None) -> tuple[dict[str, Any], str]:
    """The channel's part of a template body in the best language there is, and that language. A
    variant replaces only what it names; one that brings its own HTML does not keep the other
    language's text. TemplateError when the template has nothing for the channel."""
    base: dict[str, Any] = body.get(channel) or {}
    default = str(body.get("default_locale") or "en")
    variants = {k.replace("_", "-").lower(): v for k, v in (body.get("locales") or {}).items()}
    for tag in locale_chain(locale, default):
        variant = (variants.get(tag) or {}).get(channel)
        if variant:
            kept = {k: v for k, v in base.items() if k not in _PARTS} if _speaks(variant) else base
            return {**kept, **variant}, tag
        if tag == default.replace("_", "-").lower():
            break
    if not base:
        raise TemplateError(f"the template has no content for {channel}")
    return base, default


def _speaks(variant: dict[str, Any]) -> bool:
    return any(variant.get(part) for part in _PARTS)


class Compiled:
    """One channel's content in one language, ready to render for many members."""

    def __init__(self, body: dict[str, Any], channel: str, locale: str | None):
        content, self.locale = content_of(body, channel, locale)
        self.channel = channel
        self._subject = self._sender = self._html = None
        self._inline = False
        if channel != "email":
            self._text = Fragment(_required(content, "text"), TEXT)
            return
        source = _html(content)
        text = content.get("text")
        if source is None and not text:
            raise TemplateError("an e-mail needs mjml, html or text")
        self._subject = Fragment(str(content.get("subject") or ""), TEXT)
        self._sender = Fragment(str(content.get("from") or ""), TEXT)
        self._text = Fragment(str(text) if text else text_of(source or ""), TEXT)
        if source is not None:
            self._inline = not content.get("mjml") and "<style" in source.lower()
            self._html = Fragment(with_open_pixel(with_tracked_links(source)), HTML)

    def render(self, variables: dict[str, Any], addresses: Addresses) -> Rendered:
        """The message for `variables`; `links` is added to them. TemplateError, Aborted."""
        subject = self._subject.whole(variables, addresses)[0].strip() if self._subject else ""
        sender = self._sender.whole(variables, addresses)[0].strip() if self._sender else ""
        text = self._text.whole(variables, addresses)
        html = self._html.whole(variables, addresses) if self._html is not None else ("", [])
        if self._inline:
            try:
                inlined = _inliner.inline(html[0])
                html = inlined, [inlined]
            except css_inline.InlineError as e:
                raise TemplateError("its styles can't be inlined") from e
        return Rendered(text, html, subject, sender)


def _required(content: dict[str, Any], part: str) -> str:
    value = content.get(part)
    if not value:
        raise TemplateError(f"the template has no {part}")
    return str(value)


def _html(content: dict[str, Any]) -> str | None:
    """The HTML source: MJML compiled (no web fonts, no includes), or HTML as written."""
    if mjml := content.get("mjml"):
        try:
            made = mrml.to_html(
                str(mjml),
                parser_options=mrml.ParserOptions(include_loader=mrml.noop_loader()),
                render_options=mrml.RenderOptions(fonts={}),
            )
        except Exception as e:  # mrml raises plain OSError with its parser's message
            raise TemplateError(f"MJML: {e}") from e
        return str(made.content)
    return str(content["html"]) if content.get("html") else None
