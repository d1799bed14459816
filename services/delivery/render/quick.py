"""A fast way through the simple templates: those of text, outputs, filters, ifs and links.

The parsed template becomes a short list of constants and functions. What python-liquid's own
expressions and filters say stays theirs to say; left out are its render context, its buffers and
its bookkeeping, nine tenths of the time. A template with anything else (loops, assigns ...) has no
program, and a program that meets an error is not believed: in both cases the general way renders,
with its limits and its messages. Tests hold both ways to the same text. Pure.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from html import unescape
from typing import Any, Protocol
from urllib.parse import quote_plus

from liquid import Environment
from liquid.ast import BlockNode, Node
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import (
    FilteredExpression,
    Literal,
    Nil,
    Path,
    PositionalArgument,
    StringLiteral,
    logical,
)
from liquid.builtin.output import OutputNode
from liquid.builtin.tags.if_tag import IfNode
from liquid.expression import Expression
from liquid.stringify import to_liquid_string
from markupsafe import Markup, escape

LONGEST = 100_000
"""Characters of a result beyond which the general way counts against its limits."""
ROOTS = ("member", "trigger", "event", "campaign")
_unsafe = re.compile("[&<>'\"]").search
_no_quoting = re.compile(r"[A-Za-z0-9_.~-]+").fullmatch


@lru_cache(maxsize=4096)
def _quoted(value: str) -> str:
    return quote_plus(value)


_OF_TEXT: dict[str, Callable[[str], str]] = {
    "capitalize": str.capitalize,
    "upcase": str.upper,
    "downcase": str.lower,
    "strip": str.strip,
    "url_encode": lambda value: value if _no_quoting(value) else _quoted(value),
}
"""python-liquid's filters of a text, as they are. `url_encode` needs no escaping after it."""
_SPECIAL = frozenset(("size", "first", "last"))
"""Segments of a path that python-liquid takes as more than a name."""
_LINKS = frozenset(("unsubscribe", "preferences", "open"))
_CONDITIONS: tuple[type[Expression], ...] = (
    logical.BooleanExpression,
    logical.LogicalNotExpression,
    logical.LogicalAndExpression,
    logical.LogicalOrExpression,
    logical.EqExpression,
    logical.NeExpression,
    logical.LtExpression,
    logical.GtExpression,
    logical.LeExpression,
    logical.GeExpression,
    logical.ContainsExpression,
    logical.Empty,
    logical.Blank,
)


class Signed(Protocol):
    """The signed addresses of one message (`compiled.Addresses`)."""

    @property
    def unsubscribe(self) -> str: ...

    @property
    def open(self) -> str: ...

    def track(self, target: str) -> str: ...


class Scope:
    """What a program reads while it runs: the variables of one member's message, and its addresses. To
    python-liquid's conditions it stands in for the render context."""

    __slots__ = ("addresses", "autoescape", "undefined", "values")

    def __init__(self, values: dict[str, Any], addresses: Signed, env: Environment):
        self.values = values
        self.addresses = addresses
        self.undefined = env.undefined
        self.autoescape = env.autoescape

    def get(self, path: Sequence[str], *, token: Any = None) -> object:
        """What `RenderContext.get` gives for a path of plain names that starts with one of ROOTS."""
        found: Any = self.values
        for name in path:
            if type(found) is not dict or name not in found:
                return self.undefined(path[0], token=token)
            found = found[name]
        return found

    def link(self, name: str) -> str:
        found = self.addresses.open if name == "open" else self.addresses.unsubscribe
        return Markup(found) if self.autoescape else found


class Fixed(str):
    """A piece of a template that stands in every message; `mime` keeps its encoded form with it."""

    __slots__ = ("encoded",)

    encoded: tuple[bytes, int, int | None]


Get = Callable[[Scope], object]
Op = Fixed | Callable[[Scope, list[str]], None]


class Unsupported(Exception):
    """Only the general way can render this."""


class Program:
    """A compiled template."""

    __slots__ = ("_ops",)

    def __init__(self, ops: list[Op]):
        self._ops = ops

    @classmethod
    def of(cls, nodes: Iterable[Node], env: Environment, link_node: type, abort_node: type) -> "Program | None":
        """The program of a parsed template; None when it has to be rendered in the general way."""
        try:
            return cls(_Compiler(env, link_node, abort_node).ops(nodes))
        except Unsupported:
            return None

    def __call__(self, scope: Scope) -> list[str]:
        """The pieces of the text, in order, fixed ones as Fixed. Raises Aborted, and whatever the template's filters raise."""
        out: list[str] = []
        _run(self._ops, scope, out)
        return out


def _run(ops: list[Op], scope: Scope, out: list[str]) -> None:
    for op in ops:
        if type(op) is Fixed:
            out.append(op)
        else:
            op(scope, out)  # type: ignore[operator]


class _Compiler:
    def __init__(self, env: Environment, link_node: type, abort_node: type):
        self._env = env
        self._html = env.autoescape
        self._link_node = link_node
        self._abort_node = abort_node

    def ops(self, nodes: Iterable[Node]) -> list[Op]:
        ops: list[Op] = []
        for node in nodes:
            op = self._op(node)
            if type(op) is Fixed and ops and type(ops[-1]) is Fixed:
                ops[-1] = Fixed(ops[-1] + op)
            elif op != "":
                ops.append(op)
        return ops

    def _op(self, node: Node) -> Op:
        kind = type(node)
        if kind is ContentNode:
            return Fixed(node.text)  # type: ignore[attr-defined]
        if kind is OutputNode:
            return self._output(node.expression)  # type: ignore[attr-defined]
        if kind is self._link_node:
            return self._link(node.block)  # type: ignore[attr-defined]
        if kind is IfNode:
            return self._if(node)  # type: ignore[arg-type]
        if kind is self._abort_node:
            return lambda scope, out: node.render_to_output(scope, out)  # type: ignore[arg-type,return-value]
        raise Unsupported

    def _block(self, block: BlockNode) -> list[Op]:
        """A block of blanks prints nothing."""
        if type(block) is not BlockNode:
            raise Unsupported
        if block.blank:
            if any(type(n) is not ContentNode for n in block.nodes):
                raise Unsupported
            return []
        return self.ops(block.nodes)

    # values

    def _path(self, path: Path) -> Get:
        names = [n for n in path.path if isinstance(n, str) and n not in _SPECIAL]
        if len(names) != len(path.path):
            raise Unsupported
        if names[0] == "links" and len(names) == 2 and names[1] in _LINKS:
            name = names[1]
            return lambda scope: scope.link(name)
        if names[0] not in ROOTS:
            raise Unsupported
        if len(names) != 2:
            return lambda scope: scope.get(names)
        root, last = names

        def get(scope: Scope) -> object:
            found = scope.values[root]
            if type(found) is dict and last in found:
                return found[last]
            return scope.undefined(root)

        return get

    def _value(self, expression: Any) -> Get:
        if type(expression) is Path:
            return self._path(expression)
        if isinstance(expression, (Literal, Nil)):
            value = expression.evaluate(Scope({}, None, self._env))  # type: ignore[arg-type]
            return lambda scope: value
        raise Unsupported

    def _filtered(self, expression: Any) -> Get:
        if type(expression) is not FilteredExpression:
            raise Unsupported
        get = self._value(expression.left)
        for f in expression.filters or ():
            get = self._filter(get, f)
        return get

    def _filter(self, get: Get, f: Any) -> Get:
        func = self._env.filters.get(f.name)
        if func is None or getattr(func, "with_context", False):
            raise Unsupported
        if getattr(func, "with_environment", False):
            func = partial(func, environment=self._env)
        if any(type(a) is not PositionalArgument for a in f.args):
            raise Unsupported
        values = [self._value(a.value) for a in f.args]
        if not values:
            return lambda scope: func(get(scope))
        if f.name == "default" and len(values) == 1:
            return _default(get, func, values[0])
        return lambda scope: func(get(scope), *[v(scope) for v in values])

    # what prints

    def _output(self, expression: Any) -> Op:
        left = expression.left if type(expression) is FilteredExpression else None
        if type(left) is Path and left.path[0] == "links" and not expression.filters:
            return self._address(self._path(left), left.path[-1])
        return self._short(expression, self._any(expression))

    @staticmethod
    def _address(get: Get, name: str) -> Op:
        """One of the message's own addresses; they need no escaping."""
        if name == "open":
            return lambda scope, out: out.append(scope.addresses.open)
        return lambda scope, out: out.append(scope.addresses.unsubscribe)

    def _short(self, expression: Any, whole: Callable[[Scope, list[str]], None]) -> Op:
        """A short way for what nearly always prints: a text of one root's, and filters that take a text alone.
        Anything else is for the `whole` operation to say."""
        path = expression.left.path if type(expression.left) is Path else ()
        if len(path) != 2 or path[0] not in ROOTS:
            return whole
        root, name = path
        steps: list[Callable[[str], str]] = []
        escaped = not self._html
        for number, f in enumerate(expression.filters or ()):
            if f.name == "default" and number == 0 and len(f.args) == 1 and type(f.args[0]) is PositionalArgument:
                continue  # a text with anything in it stands for itself
            if f.name not in _OF_TEXT or f.args or f.name == "url_encode" != expression.filters[-1].name:
                return whole
            steps.append(_OF_TEXT[f.name])
            escaped = escaped or f.name == "url_encode"

        def output(scope: Scope, out: list[str]) -> None:
            found = scope.values.get(root)
            value = found.get(name) if type(found) is dict else None
            if type(value) is not str or not value:
                whole(scope, out)
                return
            for step in steps:
                value = step(value)
            out.append(value if escaped or not _unsafe(value) else escape(value))

        return output

    def _any(self, expression: Any) -> Callable[[Scope, list[str]], None]:
        get, html = self._filtered(expression), self._html

        def output(scope: Scope, out: list[str]) -> None:
            value = get(scope)
            if type(value) is str:
                out.append(escape(value) if html and _unsafe(value) else value)
            else:
                out.append(to_liquid_string(value, html))

        return output

    def _if(self, node: IfNode) -> Op:
        if node.blank:
            raise Unsupported
        branches = [(self._condition(node.condition), self._block(node.consequence))]
        branches += [(self._condition(other.expression), self._block(other.block)) for other in node.alternatives]
        rest = self._block(node.default) if node.default else []

        def choose(scope: Scope, out: list[str]) -> None:
            for condition, ops in branches:
                if condition(scope):
                    _run(ops, scope, out)
                    return
            _run(rest, scope, out)

        return choose

    def _condition(self, expression: Any) -> Get:
        """python-liquid's own evaluation, if nothing in it asks more than a Scope can answer."""
        waiting: list[Any] = [expression]
        while waiting:
            e = waiting.pop()
            if type(e) is Path:
                if e.path[0] == "links":
                    raise Unsupported
                self._path(e)
            elif isinstance(e, _CONDITIONS):
                waiting += e.children()
            elif not isinstance(e, (Literal, Nil)):
                raise Unsupported
        evaluate: Get = expression.evaluate
        inner = expression.expression if type(expression) is logical.BooleanExpression else None
        if type(inner) is logical.EqExpression and type(inner.left) is Path and type(inner.right) is StringLiteral:
            return _equals(self._path(inner.left), inner.right.value, evaluate)
        return evaluate

    def _link(self, block: BlockNode) -> Op:
        """An href: its target tracked, and escaped when that changed it."""
        ops = self._block(block)
        fixed = "" if not ops else ops[0] if len(ops) == 1 and type(ops[0]) is Fixed else None
        target_of_fixed = None if fixed is None else unescape(fixed).strip()

        def link(scope: Scope, out: list[str]) -> None:
            if fixed is None:
                inner: list[str] = []
                _run(ops, scope, inner)
                text = "".join(inner)
                target = (unescape(text) if "&" in text else text).strip()
            else:
                text, target = fixed, target_of_fixed or ""
            tracked = scope.addresses.track(target)
            if tracked != target:
                text = str(escape(tracked)) if _unsafe(tracked) else tracked
            out.append(text)

        return link


def _default(get: Get, func: Callable[..., object], otherwise: Get) -> Get:
    """python-liquid's `default` of one argument. A text with anything in it stands for itself."""

    def value(scope: Scope) -> object:
        found = get(scope)
        return found if type(found) is str and found else func(found, otherwise(scope))

    return value


def _equals(get: Get, text: str, evaluate: Get) -> Get:
    """`path == 'text'`. Two texts compare as texts, anything else as python-liquid says."""

    def condition(scope: Scope) -> object:
        found = get(scope)
        return found == text if type(found) is str else evaluate(scope)

    return condition
