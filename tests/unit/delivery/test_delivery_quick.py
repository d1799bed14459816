"""The fast way through simple templates says exactly what python-liquid says, or leaves it to it."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rondo_common.links import Link, Signer
from services.delivery.render.compiled import Addresses, Compiled
from services.delivery.render.html import with_tracked_links
from services.delivery.render.liquid import HTML, TEXT, Aborted, Fragment, TemplateError
from services.delivery.render.quick import Fixed

SIGNER = Signer("secret")
LINK = Link("click", "demo", "m1", "5f0c1d2e-1111-5222-8333-444455556666", "r1", "spring", "email", "offers")
NAMES = ("name", "plan", "n", "deep", "none", "absent", "url")

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)
    | st.sampled_from(["Ann", "gold", "<b>&'\"", "a b", "https://x.example/?a=1&b=2", "", " ", "São"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "size", "first"]), inner, max_size=2)
    ),
    max_leaves=4,
)
ROOTS = st.fixed_dictionaries(
    {root: st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5) for root in ("member", "trigger", "event")}
)
PATHS = st.one_of(
    st.tuples(st.sampled_from(["member", "trigger", "event", "campaign", "nowhere"]), st.sampled_from(NAMES)).map(
        ".".join
    ),
    st.sampled_from(["member.deep.x", "member.deep.size", "member['name']", "member[0]", "member", "links.open"]),
    st.sampled_from(["links.unsubscribe", "links.preferences", "links.nothing", "trigger.deep.x.y"]),
)
LITERALS = st.sampled_from(["'you'", '"<i>"', "3", "2.5", "true", "false", "nil", "''", "empty", "blank"])
FILTERS = st.sampled_from(
    [
        "| default: 'you'",
        "| default: member.plan",
        "| default: 1, allow_false: true",
        "| upcase",
        "| capitalize",
        "| downcase",
        "| escape",
        "| url_encode",
        "| append: '!<'",
        "| prepend: member.name",
        "| strip",
        "| truncate: 5",
        "| plus: 1",
        "| times: 2",
        "| divided_by: member.n",
        "| round: 1",
        "| size",
        "| first",
        "| split: ' '",
        "| join: ', '",
        "| replace: 'a', 'b'",
        "| date: '%Y'",
        "| newline_to_br",
        "| strip_html",
    ]
)
OUTPUTS = st.builds(
    lambda value, filters: "{{ " + " ".join([value, *filters]) + " }}", PATHS | LITERALS, st.lists(FILTERS, max_size=2)
)
CONDITIONS = st.one_of(
    PATHS,
    st.builds(
        lambda a, op, b: f"{a} {op} {b}",
        PATHS | LITERALS,
        st.sampled_from(["==", "!=", "<", ">", "<=", ">=", "contains", "and", "or"]),
        PATHS | LITERALS,
    ),
)
TEXTS = st.sampled_from(["Hi ", "\n", " ", "<p>é</p>", "a.b\n", "{ }", "%", "100%"])


def _block(inner: Any) -> Any:
    return st.one_of(
        st.builds(lambda c, a: f"{{% if {c} %}}{a}{{% endif %}}", CONDITIONS, inner),
        st.builds(
            lambda c, a, d, b, e: f"{{% if {c} %}}{a}{{% elsif {d} %}}{b}{{% else %}}{e}{{% endif %}}",
            CONDITIONS,
            inner,
            CONDITIONS,
            inner,
            inner,
        ),
        st.builds(lambda c: f"{{% if {c} %}}{{% abort 'no stock' %}}{{% endif %}}", CONDITIONS),
        st.builds(lambda a: f"<a href=\"https://x.example/{a}\">1</a><a href='{a}'>2</a>", inner),
        st.builds(lambda a: f"{{% assign v = member.name %}}{a}{{{{ v }}}}", inner),
        st.builds(lambda a: f"{{% for i in (1..2) %}}{a}{{% endfor %}}", inner),
    )


TEMPLATES = st.recursive(
    st.lists(TEXTS | OUTPUTS, max_size=4).map("".join),
    lambda inner: st.lists(inner | _block(inner), max_size=3).map("".join),
    max_leaves=5,
)


def said(render: Callable[[], str]) -> tuple[str, str]:
    try:
        return "text", render()
    except Aborted as e:
        return "aborted", str(e)
    except TemplateError as e:
        return "refused", str(e)


@settings(max_examples=250, deadline=None)
@given(TEMPLATES, ROOTS, st.booleans())
def test_both_ways_say_the_same(source: str, roots: dict[str, Any], html: bool) -> None:
    variables = {**roots, "campaign": {"id": "spring", "version": 2}}
    try:
        fragment = Fragment(with_tracked_links(source) if html else source, HTML if html else TEXT)
    except TemplateError:
        return
    addresses = Addresses(SIGNER, "http://links.test", LINK)
    quick = said(lambda: "".join(fragment.pieces(variables, addresses)))
    assert quick == said(lambda: fragment.general(variables, addresses))


@pytest.mark.parametrize(
    ("source", "quick"),
    [
        ("Hi", True),
        ("Hi {{ member.name | default: 'you' }}, {{ trigger.code }}", True),
        (
            "{% if member.plan == 'gold' and member.n > 3 %}a{% elsif event.x contains 'y' %}b{% else %}c{% endif %}",
            True,
        ),
        ("{{ 'now' | date: '%Y' }}", True),
        ("{% if x %} {% endif %}", False),
        ("{% for i in member.items %}{{ i }}{% endfor %}", False),
        ("{% assign a = 1 %}{{ a }}", False),
        ("{{ member.items.size }}", False),
        ("{{ member.items[0] }}", False),
    ],
)
def test_which_templates_are_simple(source: str, quick: bool) -> None:
    assert Fragment(source, TEXT).quick is quick


def test_a_usual_mail_needs_no_python_liquid() -> None:
    html = """<body>Hi {{ member.n | default: 'you' }} <a href="https://x.example/{{ member.c | url_encode }}">x</a>
    {% if member.plan == 'gold' %}Gold{% else %}Go{% endif %} <a href="{{ links.unsubscribe }}">bye</a></body>"""
    c = Compiled({"email": {"subject": "{{ member.n }}", "from": "a@example.com", "html": html}}, "email", None)
    made = c.render({"member": {"n": "Ann"}}, Addresses(SIGNER, "http://links.test", LINK))
    again = c.render({"member": {"n": "Bob"}}, Addresses(SIGNER, "http://links.test", LINK))
    assert all(f is not None and f.quick for f in (c._subject, c._sender, c._text, c._html))
    fixed = [p for p in made.html_pieces if type(p) is Fixed]
    assert len(fixed) > 3 and all(any(p is q for q in again.html_pieces) for p in fixed[:2])
    assert "".join(made.html_pieces) == made.html and "Hi Ann" in made.html


def test_a_long_result_is_counted_by_the_limits() -> None:
    fragment = Fragment("{{ member.n }}" * 600, TEXT)
    assert fragment.quick
    with pytest.raises(TemplateError, match="OutputStreamLimit"):
        fragment.pieces({"member": {"n": "x" * 1000}}, Addresses(SIGNER, "http://links.test", LINK))
