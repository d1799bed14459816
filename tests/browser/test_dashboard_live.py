"""The pages in a real browser, at two widths, by keyboard, and when the connection goes."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.dashboard.dead import Grave
from tests.support.dashboard_world import World, now_iso, run
from tests.support.slowness import PATIENT

pytestmark = pytest.mark.browser
SIZES = {1280: 900, 390: 844}

CONTRAST = """() => {
  const rgb = (s) => s.match(/[\\d.]+/g).map(Number);
  const lum = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (el) => {
    for (; el; el = el.parentElement) {
      const c = rgb(getComputedStyle(el).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const low = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    const el = n.parentElement;
    if (!n.data.trim() || el.closest(".hidden, noscript, script, [hidden], option, .skip")) continue;
    const style = getComputedStyle(el);
    const [a, b] = [lum(rgb(style.color)), lum(ground(el))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) low.push(`${ratio.toFixed(2)} ${el.tagName}.${el.className}: ${n.data.trim()}`);
  }
  return low;
}"""
"""Texts whose contrast is below WCAG AA."""

UNNAMED = """() => [...document.querySelectorAll("a, button, input:not([type=hidden]), textarea, select, iframe")]
  .filter((el) => !(el.textContent.trim() || el.getAttribute("aria-label") || el.title || el.labels?.length))
  .map((el) => el.outerHTML)"""
"""Controls that a screen reader could not name."""


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        made = p.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield made
        made.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    spring = run("r1", "spring", "running", 60, sent=700, deferred=200, skipped=80, queued=10, failed=6, unknown=4)
    spring["reasons"] = {"deferred": {"quiet_hours": 200}, "skipped": {"consent_missing": 75, "expired": 5},
                         "failed": {"hard_bounce": 6}, "unknown": {"timeout": 4}}  # fmt: skip
    spring["rate_per_s"], spring["eta_s"] = 81.2, 260
    made.runs = [spring, run("r2", "night", "paused", 900, queued=5), run("r0", "old", "finished", 9000, sent=9)]
    made.members["m1"] = {"traits": {"firstName": "Ann", "lastName": "Lee"}}
    made.conversations = [
        {"id": "c1", "status": "open", "channel": "sms", "member_id": "m1", "opened_at": now_iso(200),
         "messages": [{"direction": "in", "text": "when does it open?", "at": now_iso(200)}]},
        {"id": "c2", "status": "open", "channel": "email", "member_id": "m2", "opened_at": now_iso(90),
         "messages": [{"direction": "in", "text": "thanks", "at": now_iso(90)},
                      {"direction": "out", "text": "Gladly", "at": now_iso(30)}]},
    ]  # fmt: skip
    labels = '{stage="profiles",topic="rondo.events.v1"'
    made.processes["profiles"].counters = {f'rondo_stream_lag{labels},partition="0"}}': 1200.0}
    made.broker.graves = {("rondo.events.v1.dlq", 0): Grave(0, 2, Counter(not_json=2))}
    mail = "<style>p{color:teal}</style><p>Hi <b>Ann</b></p><script>document.title='run'</script>"
    made.message(subject="Hi Ann", text="Hi Ann", html=mail, links=["http://127.0.0.1:9/l/Ab3"],
                 headers={"List-Unsubscribe": "<http://127.0.0.1:9/u>"}, args={"c": "spring"})  # fmt: skip
    made.message(channel="sms", provider="twilio", to="+33612345678", text="Hello", sms_segments=1)
    yield made
    made.close()


class Page:
    """A page that notes what the browser complains about."""

    def __init__(self, browser: Any, world: World, width: int = 1280):
        self.page = browser.new_page(viewport={"width": width, "height": SIZES[width]})
        self.page.set_default_timeout(15_000 * PATIENT)
        self.complaints: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self._base = world.dashboard.url

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()

    def go(self, path: str) -> Any:
        self.page.goto(self._base + path)
        self.until("document.querySelector('nav [aria-current]') !== null")
        return self.page

    def until(self, expression: str) -> None:
        """Wait until it is true on the page (playwright's own waiting needs unsafe-eval)."""
        deadline = time.monotonic() + PATIENT * 15
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, expression
            self.page.wait_for_timeout(50)

    def shows(self, text: str, within: str = "main") -> None:
        """Wait until the page shows a text."""
        self.page.locator(within).get_by_text(text).first.wait_for()


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("path", ["/", "/inbox", "/inbox/i1", "/inbox/i2", "/conversations"])
def test_every_page_fits_reads_and_can_be_named(browser: Any, world: World, path: str, width: int):
    world.write_state(silent=("links",))
    with Page(browser, world, width) as p:
        page = p.go(path)
        page.wait_for_timeout(1500)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CONTRAST) == []
        assert page.evaluate(UNNAMED) == []
        assert page.locator("h1").count() == 1
        assert [
            c for c in p.complaints if "o/x.gif" not in c and "inline script" not in c and "sandboxed" not in c
        ] == []


def test_it_moves_by_itself_and_survives_a_reload(browser: Any, world: World):
    with Page(browser, world) as p:
        page = p.go("/")
        p.shows("quiet hours")
        spring = page.get_by_role("article", name="Campaign spring")
        assert "Sent 700" in spring.inner_text() and "Held 200" in spring.inner_text()
        assert "no consent 75" in spring.inner_text()
        world.runs[0]["counts"] |= {"sent": 750, "queued": 0, "deferred": 160}
        began = time.monotonic()
        spring.get_by_text("750").wait_for()
        assert time.monotonic() - began < 5
        world.conversations[1]["messages"].append({"direction": "in", "text": "and one more", "at": now_iso(2)})
        p.shows("and one more")
        assert page.locator("nav .badge").inner_text().startswith("2")
        page.reload()
        assert "750" in page.get_by_role("article", name="Campaign spring").inner_text()
        assert "1,200" in page.locator("tr", has_text="profiles").first.inner_text()
        assert "not json 2" in page.locator("main").inner_text()


def test_a_process_that_dies_and_returns_is_told_on_the_page_and_aloud(browser: Any, world: World):
    with Page(browser, world) as p:
        page = p.go("/")
        page.wait_for_timeout(1500)
        world.write_state(silent=("rhythm",))
        p.shows("does not answer")
        aloud = page.locator("#announce")
        p.until("document.querySelector('#announce').textContent.includes('rhythm: no answer')")
        assert aloud.get_attribute("aria-live") == "polite"
        world.write_state()
        p.until("document.querySelector('#announce').textContent.includes('services are ready')")
        assert page.locator(".trouble").count() == 0


def test_a_lost_connection_is_shown_until_it_is_back(browser: Any, world: World):
    with Page(browser, world) as p:
        page = p.go("/")
        p.until("document.querySelector('#age').textContent.startsWith('Updated')")
        world.dashboard.stop()
        p.until("/Connection lost: last update \\d+ s ago/.test(document.querySelector('#age').textContent)")
        assert "lost" in (page.locator("#fresh").get_attribute("class") or "")
        assert "spring" in page.locator("main").inner_text()  # what was known stays
        world.dashboard.start()
        p.until("document.querySelector('#age').textContent.startsWith('Updated')")
        world.runs[0]["campaign"] = "summer"
        page.get_by_role("heading", name="summer").wait_for()


def test_typed_words_and_focus_survive_what_arrives(browser: Any, world: World):
    with Page(browser, world) as p:
        page = p.go("/conversations")
        box = page.get_by_label("Answer by SMS")
        box.click()
        page.keyboard.type("At nine, ")
        world.conversations.insert(0, {
            "id": "c9", "status": "open", "channel": "messaging", "member_id": "m9", "opened_at": now_iso(999),
            "messages": [{"direction": "in", "text": "hello?", "at": now_iso(999)}],
        })  # fmt: skip
        world.conversations[1]["messages"].append({"direction": "in", "text": "anyone?", "at": now_iso(1)})
        p.shows("hello?")
        p.shows("anyone?")
        page.keyboard.type("see you")
        assert box.input_value() == "At nine, see you"
        assert page.evaluate("document.activeElement.id") == "text-c1"


def test_answer_and_close_by_keyboard_alone(browser: Any, world: World):
    with Page(browser, world) as p:
        page = p.go("/conversations")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "text-c1"
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        page.keyboard.type("At nine.")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        p.shows("The answer is on its way.")
        p.shows("At nine.")
        assert world.posts[0][:2] == ("/v1/conversations/c1/reply", {"text": "At nine."})
        page.locator("#c1").get_by_role("button", name="Close conversation").press("Enter")
        p.shows("Closed.")
        assert page.locator("#c1").count() == 0


def test_a_captured_mail_is_shown_but_can_do_nothing(browser: Any, world: World):
    with Page(browser, world) as p:
        page = p.go("/inbox")
        page.get_by_role("link", name="Hi Ann").first.click()
        frame = page.frame_locator("iframe.mail")
        assert frame.locator("b").inner_text() == "Ann"
        color = frame.locator("p").evaluate("e => getComputedStyle(e).color")
        assert color == "rgb(0, 128, 128)"
        assert page.frames[1].title() != "run"
        page.get_by_label("Reply").fill("STOP")
        page.get_by_role("button", name="Reply as member").click()
        p.shows("The reply is on its way in.")
        page.get_by_role("button", name="Unsubscribe").click()
        p.shows("Unsubscribed by one click.")
        page.get_by_role("button", name="Click link 1 as member").click()
        p.shows("Clicked.")
        assert [d[1:] for d in world.acts.done] == [("reply", "STOP", 0), ("unsubscribe", "", 0), ("click", "", 0)]


def test_new_messages_are_announced_in_the_inbox(browser: Any, world: World):
    with Page(browser, world) as p:
        page = p.go("/inbox")
        page.get_by_label("Find text, address or campaign").fill("+336")
        page.keyboard.press("Enter")
        page.wait_for_url("**q=*")
        assert page.locator(".messages li").count() == 1
        world.message(channel="sms", provider="twilio", to="+33699999999", text="new")
        page.get_by_role("link", name="Show 1 new").click()
        page.locator(".messages li").nth(1).wait_for()
        assert "+33699999999" in page.locator(".messages").inner_text()


def test_no_page_needs_more_than_one_connection_and_hidden_ones_none(browser: Any, world: World):
    with Page(browser, world) as p:
        page = p.go("/")
        page.wait_for_timeout(1200)
        assert world.collector.watching == 1
        page.evaluate("""() => {
          Object.defineProperty(document, "hidden", { value: true, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""")
        deadline = time.monotonic() + PATIENT * 10
        while world.collector.watching and time.monotonic() < deadline:
            page.wait_for_timeout(100)
        assert world.collector.watching == 0
