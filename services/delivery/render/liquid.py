"""Liquid with limits: what customers' templates may do, and how much of it.

Templates are other people's programs. Loops, output, nesting and names are bounded, numbers too
(a chain of products would otherwise cost unbounded time), `safe` is gone, and partials can't be
loaded. In HTML every value is escaped.
"""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from html import unescape
from typing import Any, TextIO

from liquid import Environment
from liquid.ast import BlockNode, Node
from liquid.exceptions import LiquidError
from liquid.filter import math_filter
from liquid.parser import get_parser
from liquid.stream import TokenStream
from liquid.tag import Tag
from liquid.template import BoundTemplate
from liquid.token import TOKEN_EOF, TOKEN_EXPRESSION, TOKEN_TAG, Token
from liquid.undefined import Undefined
from markupsafe import Markup, escape

from services.delivery.render.quick import LONGEST, Fixed, Program, Scope, Signed

Track = Callable[[str], str]
"""Turns the target of a link into its tracked address."""

LARGEST = 10**18

tracker: ContextVar[Track | None] = ContextVar("delivery_tracker", default=None)
"""How the links of the message being rendered are tracked; None leaves them as they are."""
gaps: ContextVar[dict[str, None] | None] = ContextVar("delivery_gaps", default=None)
"""Names the preview found no value for, in order."""


class Aborted(Exception):
    """The template itself said that this member is to get nothing: {% abort 'reason' %}."""


class TemplateError(ValueError):
    """The template can't be read or rendered. The text says why, without a member's data."""


class Gap(Undefined):
    """A name without a value: prints nothing, and is noted when it would have been printed."""

    def __str__(self) -> str:
        found = gaps.get()
        if found is not None:
            # the hint names the whole path: "member.plan is undefined", "'plan' is undefined"
            name = (self.hint or "").removesuffix(" is undefined").strip("'") if self.hint else self.name
            found[name] = None
        return ""


class _AbortNode(Node):
    __slots__ = ("reason",)

    def __init__(self, token: Token, reason: str):
        super().__init__(token)
        self.reason = reason
        self.blank = False

    def render_to_output(self, context: Any, buffer: TextIO) -> int:
        raise Aborted(self.reason)


class _AbortTag(Tag):
    name = "abort"
    block = False
    node_class = _AbortNode

    def parse(self, stream: TokenStream) -> Node:
        token = stream.eat(TOKEN_TAG)
        reason = ""
        if stream.current.kind == TOKEN_EXPRESSION:
            reason = stream.current.value.strip().strip("'\"")
        return self.node_class(token, reason)


class _LinkNode(Node):
    """Holds the value of one href. What it renders to is a finished, escaped attribute value."""

    __slots__ = ("block",)

    def __init__(self, token: Token, block: BlockNode):
        super().__init__(token)
        self.block = block
        self.blank = False

    def children(self, static_context: Any, *, include_partials: bool = True) -> Iterable[Node]:
        yield self.block

    def render_to_output(self, context: Any, buffer: TextIO) -> int:
        inner = context.get_buffer(buffer)
        self.block.render(context, inner)
        text: str = inner.getvalue()
        track = tracker.get()
        if track is not None:
            target = unescape(text).strip()
            tracked = track(target)
            if tracked != target:
                text = str(escape(tracked))
        return buffer.write(text)


class _LinkTag(Tag):
    name = "trackedlink"
    end = "endtrackedlink"
    block = True
    node_class = _LinkNode

    def parse(self, stream: TokenStream) -> Node:
        token = stream.eat(TOKEN_TAG)
        if stream.current.kind == TOKEN_EXPRESSION:
            next(stream)
        block = get_parser(self.env).parse_block(stream, frozenset((self.end, TOKEN_EOF)))
        stream.expect(TOKEN_TAG, value=self.end)
        return self.node_class(token, block)


@math_filter
def _times(left: Any, right: Any) -> Any:
    product = left * right
    if isinstance(product, int) and abs(product) > LARGEST:
        raise LiquidError("a product is too large", token=None)
    return product


class _Limited(Environment):
    loop_iteration_limit = 20_000
    output_stream_limit = 512 * 1024
    context_depth_limit = 30
    local_namespace_limit = 1_000_000
    block_nesting_limit = 100


def _environment(html: bool) -> Environment:
    env = _Limited(autoescape=html, undefined=Gap)
    env.add_tag(_AbortTag)
    env.add_tag(_LinkTag)
    env.filters.pop("safe", None)
    env.add_filter("times", _times)
    for name in ("include", "render"):
        env.tags.pop(name, None)
    return env


TEXT = _environment(html=False)
"""Subjects, texts, chats: values as they are."""
HTML = _environment(html=True)
"""HTML: values escaped."""


class Fragment:
    """A parsed piece of a template. One without any Liquid is its own result, a simple one has a program
    (quick.py), any other is rendered by python-liquid."""

    __slots__ = ("_env", "_html", "_plain", "_program", "_template")

    def __init__(self, source: str, env: Environment):
        self._env = env
        self._html = env is HTML
        self._plain: Fixed | None = Fixed(source) if "{{" not in source and "{%" not in source else None
        self._template: BoundTemplate | None = None
        self._program: Program | None = None
        if self._plain is None:
            try:
                self._template = env.from_string(source)
            except LiquidError as e:
                raise TemplateError(f"Liquid: {_where(e)}") from e
            except RecursionError as e:
                raise TemplateError("Liquid: nested too deeply") from e
            self._program = Program.of(self._template.nodes, env, _LinkNode, _AbortNode)

    @property
    def quick(self) -> bool:
        """Whether it needs no python-liquid to render."""
        return self._plain is not None or self._program is not None

    def pieces(self, variables: dict[str, Any], addresses: Signed) -> list[str]:
        """The text for `variables` and the links of one message, in pieces, fixed ones as Fixed.
        TemplateError when a limit is met or a filter can't work; Aborted."""
        return self.whole(variables, addresses)[1]

    def whole(self, variables: dict[str, Any], addresses: Signed) -> tuple[str, list[str]]:
        """The text, and its pieces."""
        if self._plain is not None:
            return self._plain, [self._plain]
        if self._program is not None and gaps.get() is None:
            try:
                found = self._program(Scope(variables, addresses, self._env))
                text = "".join(found)
                if len(text) <= LONGEST:
                    return text, found
            except Aborted:
                raise
            except Exception:  # whatever it was: the general way meets it too, and says what is wrong
                pass
        text = self.general(variables, addresses)
        return text, [text]

    def general(self, variables: dict[str, Any], addresses: Signed) -> str:
        """The text as python-liquid renders it, whatever the template."""
        if self._template is None:
            return self._plain or ""
        token = tracker.set(addresses.track) if self._html else None
        try:
            return self._template.render({**variables, "links": _Links(addresses, self._html)})
        except LiquidError as e:
            raise TemplateError(f"Liquid: {_where(e)}") from e
        except Aborted:
            raise
        except (RecursionError, OverflowError, ArithmeticError, TypeError, ValueError, AttributeError) as e:
            raise TemplateError(f"Liquid: {type(e).__name__}") from e
        finally:
            if token is not None:
                tracker.reset(token)


class _Links(dict[str, Any]):
    """links.* of a template, signed only when used."""

    def __init__(self, addresses: Signed, html: bool):
        super().__init__()
        self._addresses = addresses
        self._is_html = html

    def __getitem__(self, key: str) -> str:
        match key:
            case "unsubscribe" | "preferences":
                found = self._addresses.unsubscribe
            case "open":
                found = self._addresses.open
            case _:
                raise KeyError(key)
        return Markup(found) if self._is_html else found

    def __contains__(self, key: object) -> bool:
        return key in ("unsubscribe", "preferences", "open")


def _where(error: LiquidError) -> str:
    """What is wrong and in which line, without the values that were being rendered."""
    line = ""
    try:
        place = error.context()
        line = f" in line {place[0]}" if place else ""
    except Exception:
        line = ""
    return f"{type(error).__name__.removesuffix('Error')}{line}"
