"""What is done once to the HTML of a template version, before any member: tracked links, the open
pixel, and a text version for those who read text. Works on Liquid source, leaving its tags whole."""

import re
from html import unescape
from html.parser import HTMLParser

_LIQUID = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_ATOM = r"\{\{.*?\}\}|\{%.*?%\}|\{(?![{%])"  # a Liquid tag as a whole, or a lone brace
_HREF = re.compile(
    rf"(<(?:a|area)\b(?:{_ATOM}|\"(?:{_ATOM}|[^\"{{])*\"|'(?:{_ATOM}|[^'{{])*'|[^<>\"'{{])*?\shref\s*=\s*)"
    rf"(?:\"((?:{_ATOM}|[^\"{{])*)\"|'((?:{_ATOM}|[^'{{])*)')",
    re.DOTALL | re.IGNORECASE,
)
_BODY_END = re.compile(r"</body\s*>", re.IGNORECASE)

PIXEL = '<img src="{{ links.open }}" width="1" height="1" alt="" style="display:block;border:0;width:1px;height:1px">'


def with_tracked_links(source: str) -> str:
    """Wraps the value of each link's href, so that rendering can replace it as a whole. Links within
    the page, mailto: and the like are told apart then."""

    def wrapped(m: re.Match[str]) -> str:
        quote = '"' if m[2] is not None else "'"
        value = m[2] if m[2] is not None else m[3]
        if value.lstrip().startswith("#"):
            return m[0]
        return f"{m[1]}{quote}{{% trackedlink %}}{value}{{% endtrackedlink %}}{quote}"

    return _HREF.sub(wrapped, source)


def with_open_pixel(source: str) -> str:
    """Puts the open pixel at the end of the body."""
    ends = list(_BODY_END.finditer(source))
    at = ends[-1].start() if ends else len(source)
    return source[:at] + PIXEL + source[at:]


_BREAKS = frozenset(
    {"p", "div", "tr", "table", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "section", "blockquote"}
)
_SKIPPED = frozenset({"style", "script", "head", "title"})


class _Text(HTMLParser):
    def __init__(self, liquid: list[str]):
        super().__init__(convert_charrefs=True)
        self.out: list[str] = []
        self._liquid = liquid
        self._skip = 0
        self._hrefs: list[tuple[str, int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SKIPPED:
            self._skip += 1
        elif tag == "br":
            self.out.append("\n")
        elif tag == "li":
            self.out.append("\n- ")
        elif tag in _BREAKS:
            self.out.append("\n\n" if tag[0] in "ph" else "\n")
        elif tag == "a":
            self._hrefs.append((dict(attrs).get("href") or "", len(self.out)))
        elif tag == "img" and not self._skip and (alt := dict(attrs).get("alt")):
            self.out.append(alt)

    def handle_endtag(self, tag: str) -> None:
        if tag in _SKIPPED:
            self._skip = max(0, self._skip - 1)
        elif tag in _BREAKS:
            self.out.append("\n\n" if tag[0] in "ph" else "\n")
        elif tag == "a" and self._hrefs:
            href, start = self._hrefs.pop()
            said = "".join(self.out[start:]).strip()
            if href and not href.startswith("#") and unescape(href) != said:
                self.out.append(f" ({href})" if said else href)

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.out.append(re.sub(r"[ \t\r\n\f]+", " ", data))


def text_of(source: str) -> str:
    """A text template with the words and links of an HTML template. Liquid tags stay where they were;
    those inside what is left out (styles, the head) go with it."""
    liquid: list[str] = []

    def hidden(m: re.Match[str]) -> str:
        liquid.append(m[0])
        return f"\ue000{len(liquid) - 1}\ue001"

    parser = _Text(liquid)
    parser.feed(_LIQUID.sub(hidden, source))
    parser.close()
    text = "".join(parser.out)
    text = re.sub(r"[ \t]*\n[ \t]*", "\n", text)
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    return re.sub("\ue000(\\d+)\ue001", lambda m: liquid[int(m[1])], text)
