"""Signed link tokens: they come back whole, and nothing else is believed."""

import base64
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from rondo_common.links import BadToken, Link, Signer

WORDS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=40)
IDS = st.one_of(st.uuids().map(str), WORDS, st.uuids().map(lambda u: f"{u}:email"))
LINKS = st.builds(
    Link, st.sampled_from(["click", "open", "unsubscribe"]), WORDS, IDS, IDS, IDS, WORDS, WORDS, WORDS, WORDS
)
LINK = Link(
    "click",
    "demo",
    "5f0c1d2e-1111-5222-8333-444455556666",
    "t",
    "r",
    "spring",
    "email",
    "offers",
    "https://x.example/?a=1",
)


@settings(max_examples=150, deadline=None)
@given(LINKS)
def test_a_token_comes_back_whole_and_is_url_safe(link: Link) -> None:
    token = Signer("k").token(link)
    assert Signer("k").read(token) == link
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@settings(max_examples=150, deadline=None)
@given(LINKS, LINKS)
def test_a_series_makes_the_same_addresses(common: Link, other: Link) -> None:
    link = structs.replace(common, kind=other.kind, url=other.url)
    assert Signer("k").series(common).url("http://l", other.kind, other.url) == Signer("k").url("http://l", link)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_token_is_refused(data: st.DataObject) -> None:
    token = Signer("k").token(LINK)
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadToken):
        Signer("k").read(base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode())


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadToken):
        Signer("k").read(text)


def test_another_spelling_of_the_same_bytes_is_refused() -> None:
    token = Signer("k").token(LINK)
    for other in (token + "=", token + "\n", " " + token, token[:-1], token + "A"):
        with pytest.raises(BadToken):
            Signer("k").read(other)


def test_another_secret_or_workspace_s_key_is_refused_and_old_keys_are_read() -> None:
    token = Signer("old", 1).token(LINK)
    with pytest.raises(BadToken):
        Signer("new", 1).read(token)
    with pytest.raises(BadToken):
        Signer("new", 2).read(token)
    assert Signer("new", 2, {1: "old"}).read(token) == LINK


def test_addresses() -> None:
    signer = Signer("k")
    assert signer.url("http://l", LINK).startswith("http://l/l/")
    assert signer.url("http://l", Link("open", "w", "m", "t")).endswith(".gif")
    assert len(signer.token(LINK)) < 140
    with pytest.raises(ValueError, match="kind"):
        signer.token(Link("other", "w", "m", "t"))


def test_the_mac_is_hmac_sha256() -> None:
    raw = base64.urlsafe_b64decode((token := Signer("k").token(LINK)) + "=" * (-len(token) % 4))
    key = hmac.new(b"k", b"links", "sha256").digest()
    assert raw[1:13] == hmac.new(key, raw[:1] + raw[13:], "sha256").digest()[:12]
