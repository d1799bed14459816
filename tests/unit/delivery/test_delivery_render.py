"""Rendering: limits, escaping, languages, tracked links, text from HTML."""

import re

import pytest

from rondo_common.links import Link, Signer
from services.delivery.render.compiled import Addresses, Compiled, locale_chain
from services.delivery.render.html import text_of, with_open_pixel, with_tracked_links
from services.delivery.render.liquid import Aborted, TemplateError, gaps

BASE = "http://links.test"
SIGNER = Signer("secret")


def addresses() -> Addresses:
    return Addresses(SIGNER, BASE, Link("click", "demo", "m1", "t1", "r1", "spring", "email", "offers"))


def render(body: dict, channel: str = "sms", locale: str | None = None, **variables):  # type: ignore[no-untyped-def]
    return Compiled(body, channel, locale).render(variables, addresses())


def sms(text: str, **variables) -> str:  # type: ignore[no-untyped-def]
    return render({"sms": {"text": text}}, "sms", **variables).text


@pytest.mark.parametrize(
    "bomb",
    [
        "{% for i in (1..100000) %}{% for j in (1..100000) %}{% endfor %}{% endfor %}",
        "{% for i in (1..1000) %}{% for j in (1..1000) %}xxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
        "{% assign x = 'aaaaaaaaaa' %}{% for i in (1..40) %}{% assign x = x | append: x %}{% endfor %}{{ x }}",
        "{% assign x = 9 %}{% for i in (1..60) %}{% assign x = x | times: x %}{% endfor %}{{ x }}",
        "{{ 1 | divided_by: 0 }}",
        "{{ 'x' | safe }}",
        "{{ 'x' | no_such_filter }}",
        "{% include 'x' %}",
        "{% render 'x' %}",
        "{% if %}",
        "{{ ",
    ],
)
def test_bombs_and_mistakes_are_refused(bomb: str) -> None:
    with pytest.raises(TemplateError) as e:
        sms(bomb)
    assert str(e.value)


def test_errors_do_not_tell_a_member_s_data() -> None:
    with pytest.raises(TemplateError) as e:
        sms("{{ member.secret | divided_by: 0 }}", member={"secret": 31337})
    assert "31337" not in str(e.value)


def test_values_are_escaped_in_html_only() -> None:
    body = {"email": {"subject": "{{ member.n }}", "html": "<p title='{{ member.n }}'>{{ member.n }}</p>"}}
    r = render(body, "email", member={"n": "<script>'\"&"})
    assert "<script>" not in r.html and "&lt;script&gt;" in r.html
    assert r.subject == "<script>'\"&" and "<script>'\"&" in r.text


def test_abort() -> None:
    with pytest.raises(Aborted, match="no stock"):
        sms("{% if true %}{% abort 'no stock' %}{% endif %}")


def test_locale_chain() -> None:
    assert locale_chain("fr-FR", "en") == ["fr-fr", "fr", "en"]
    assert locale_chain("zh_Hant_TW", "en") == ["zh-hant-tw", "zh-hant", "zh", "en"]
    assert locale_chain(None, "en") == ["en"]


BODY = {
    "default_locale": "en",
    "sms": {"text": "Hi"},
    "email": {"subject": "Hi", "from": "a@example.com", "html": "<p>Hi</p>", "text": "Hi text"},
    "locales": {
        "fr": {"sms": {"text": "Salut"}, "email": {"subject": "Salut"}},
        "de": {"email": {"subject": "Hallo", "html": "<p>Hallo</p>"}},
        "fr-CA": {"sms": {"text": "Allô"}},
    },
}


@pytest.mark.parametrize(
    ("locale", "text"), [("fr-FR", "Salut"), ("fr-CA", "Allô"), ("de", "Hi"), ("en-GB", "Hi"), (None, "Hi")]
)
def test_the_best_language_there_is(locale: str | None, text: str) -> None:
    assert render(BODY, "sms", locale).text == text


def test_a_variant_replaces_what_it_names() -> None:
    fr, de = render(BODY, "email", "fr"), render(BODY, "email", "de")
    assert (fr.subject, fr.text, fr.sender) == ("Salut", "Hi text", "a@example.com")
    assert (de.subject, de.text.strip()) == ("Hallo", "Hallo")


def test_the_default_language_does_not_fall_into_another() -> None:
    body = {"default_locale": "en", "sms": {"text": "Hi"}, "locales": {"fr": {"sms": {"text": "Salut"}}}}
    assert render(body, "sms", "it").text == "Hi"


def test_links_are_tracked_and_lead_to_what_was_written() -> None:
    body = {
        "email": {
            "subject": "x",
            "html": """<body><a class="a>b" href="https://x.example/?a=1&amp;q={{ member.q | url_encode }}">1</a>
              <A HREF='https://y.example/{% if member.q %}yes{% endif %}'>2</A> <a href="mailto:a@b.example">3</a>
              <a href="#top">4</a> <a href="{{ links.unsubscribe }}">5</a> <link href="https://css.example/x"></body>""",
        }
    }
    r = render(body, "email", member={"q": "a b"})
    found = re.findall(r"href=[\"']([^\"']*)", r.html, re.IGNORECASE)
    clicks = [SIGNER.read(u.removeprefix(f"{BASE}/l/")) for u in found if u.startswith(f"{BASE}/l/")]
    assert [c.url for c in clicks] == ["https://x.example/?a=1&q=a+b", "https://y.example/yes"]
    assert found[2] == "mailto:a@b.example" and found[3] == "#top" and found[4].startswith(f"{BASE}/u/")
    assert found[5] == "https://css.example/x"
    pixel = re.search(rf'<img src="{BASE}/o/([^"]+)\.gif"', r.html)
    assert pixel and SIGNER.read(pixel[1]).kind == "open"
    assert r.html.index("<img") < r.html.index("</body>")
    assert "https://x.example/?a=1&q=a+b" in r.text


def test_hostile_urls_stay_escaped() -> None:
    body = {"email": {"subject": "x", "html": '<a href="{{ member.u }}">1</a>'}}
    r = render(body, "email", member={"u": 'javascript:alert("1")'})
    assert '"javascript:alert(&#34;1&#34;)"' in r.html
    r = render(body, "email", member={"u": 'https://x.example/"><script>'})
    assert "<script>" not in r.html


def test_mjml_is_compiled_without_outside_fonts() -> None:
    column = "<mj-column><mj-text>Hi {{ member.n }}</mj-text></mj-column>"
    mjml = f"<mjml><mj-body><mj-section>{column}</mj-section></mj-body></mjml>"
    r = render({"email": {"subject": "x", "mjml": mjml, "text": None}}, "email", member={"n": "Ann"})
    assert "Hi Ann" in r.html and "fonts.googleapis" not in r.html and "<table" in r.html
    assert r.text.strip() == "Hi Ann"
    with pytest.raises(TemplateError, match="MJML"):
        Compiled({"email": {"subject": "x", "mjml": "<mjml><mj-body>"}}, "email", None)


def test_styles_are_inlined_for_html_and_loops_in_tables_survive() -> None:
    html = (
        "<style>td{color:red}</style><table>{% for i in trigger.items %}<tr><td>{{ i }}</td></tr>{% endfor %}</table>"
    )
    r = render({"email": {"subject": "x", "html": html}}, "email", trigger={"items": [1, 2]})
    assert r.html.count("color: red") + r.html.count("color:red") >= 2 and "<style" not in r.html


def test_text_of_html() -> None:
    head = "<head><title>x</title><style>a{}</style></head>"
    html = head + "<h1>A &amp; B</h1><p>one<br>two {{ a | b: '<' }}</p><ul><li>x</li></ul>"
    assert text_of(html) == "A & B\n\none\ntwo {{ a | b: '<' }}\n\n- x"


def test_the_pixel_comes_last_without_a_body() -> None:
    assert with_open_pixel("<p>x</p>").startswith("<p>x</p><img")
    assert with_tracked_links('<a data-href="x" name=y>z</a>') == '<a data-href="x" name=y>z</a>'


def test_missing_names() -> None:
    found: dict[str, None] = {}
    token = gaps.set(found)
    try:
        sms("{{ member.plan }} {{ nope }} {{ member.x | default: 'y' }} {{ member.n }}", member={"n": 1})
    finally:
        gaps.reset(token)
    assert list(found) == ["member.plan", "nope"]


def test_a_template_without_the_channel() -> None:
    with pytest.raises(TemplateError):
        Compiled({"sms": {"text": "x"}}, "messaging", None)
    with pytest.raises(TemplateError):
        Compiled({"email": {"subject": "x"}}, "email", None)
