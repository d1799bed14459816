"""Who follows links: people or programs."""

import pytest

from rondo_common.links import Link
from services.links.classify import Recent, classify
from services.links.handlers import Follower

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0 Safari/537.36"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
OUTLOOK = "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; Microsoft Outlook 16.0.17328; ms-office)"
THUNDERBIRD = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.0"
NOW = 1_800_000_000_000


@pytest.mark.parametrize("agent", [CHROME, IPHONE, OUTLOOK, THUNDERBIRD])
def test_people(agent):
    assert classify("GET", {"user-agent": agent}, False) == ("human", "")


@pytest.mark.parametrize(
    ("method", "headers", "rule"),
    [
        ("HEAD", {"user-agent": CHROME}, "head_request"),
        ("GET", {}, "no_user_agent"),
        ("GET", {"user-agent": " "}, "no_user_agent"),
        ("GET", {"user-agent": "Mozilla/5.0"}, "bare_user_agent"),
        ("GET", {"user-agent": CHROME, "sec-purpose": "prefetch;prerender"}, "prefetch"),
        ("GET", {"user-agent": "Mozilla/5.0 (Windows NT 5.1) (via ggpht.com GoogleImageProxy)"}, "image_proxy"),
        ("GET", {"user-agent": "YahooMailProxy; https://help.yahoo.com/kb/"}, "image_proxy"),
        ("GET", {"user-agent": "Mozilla/5.0 (compatible; BarracudaSentinel/1.0; +link-protection)"}, "scanner"),
        ("GET", {"user-agent": "Mozilla/5.0 (compatible; proofpoint-url-defense)"}, "scanner"),
        ("GET", {"user-agent": "facebookexternalhit/1.1"}, "preview"),
        ("GET", {"user-agent": "TelegramBot (like TwitterBot)"}, "preview"),
        ("GET", {"user-agent": "curl/8.5.0"}, "program"),
        ("GET", {"user-agent": "python-requests/2.32"}, "program"),
        ("GET", {"user-agent": "Mozilla/5.0 (compatible; SomeBot/2.1)"}, "program"),
        ("GET", {"user-agent": "Mozilla/5.0 HeadlessChrome/150.0"}, "program"),
    ],
)  # fmt: skip
def test_programs(method, headers, rule):
    assert classify(method, headers, False) == ("machine", rule)


def test_other_links_of_one_message_within_a_second_are_a_burst():
    recent = Recent()
    assert not recent.burst("t1", "a", 0)
    assert recent.burst("t1", "b", 400)
    assert recent.burst("t1", "c", 900)
    assert recent.burst("t1", None, 950), "the pixel among them"
    assert not recent.burst("t1", "a", 2_000)


def test_no_burst():
    recent = Recent()
    assert not recent.burst("t1", None, 0)
    assert not recent.burst("t1", "a", 10), "opening and following one link at once is what people do"
    assert not recent.burst("t1", None, 20)
    assert not recent.burst("t1", "a", 500), "the same link twice"
    assert not recent.burst("t2", "b", 600), "another message"
    assert not recent.burst("t1", "b", 1_500)


def click(url="https://shop.example/a", kind="click", touch="t1"):
    return Link(kind, "demo", "m1", touch, "r1", "spring", "email", "offers", url if kind == "click" else "")


def test_repeats_within_a_second_are_one_record():
    follower = Follower()
    first = follower.follow(click(), "GET", {"user-agent": CHROME}, NOW, 0)
    assert first is not None
    assert (first.kind, first.actor, first.touch_id, first.campaign, first.link) == (
        "clicked", "human", "t1", "spring", "https://shop.example/a",
    )  # fmt: skip
    assert follower.follow(click(), "GET", {"user-agent": CHROME}, NOW + 300, 300) is None
    later = follower.follow(click(), "GET", {"user-agent": CHROME}, NOW + 1_000, 1_000)
    assert later is not None
    assert later.id != first.id


def test_the_id_is_the_same_in_another_process():
    a = Follower().follow(click(), "GET", {"user-agent": CHROME}, NOW, 0)
    b = Follower().follow(click(), "GET", {"user-agent": CHROME}, NOW + 999, 5_000)
    assert a is not None
    assert b is not None
    assert a.id == b.id


def test_a_scan_by_a_browser_like_program_counts_one_person_at_most():
    follower = Follower()
    made = [follower.follow(click(f"https://x.example/{i}"), "GET", {"user-agent": CHROME}, NOW, i) for i in range(5)]
    assert [e.actor for e in made if e] == ["human"] + ["machine"] * 4
    pixel = follower.follow(click(kind="open"), "GET", {"user-agent": CHROME}, NOW, 10)
    assert pixel is not None
    assert (pixel.kind, pixel.actor) == ("opened", "machine")
