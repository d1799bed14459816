"""The demo's steps, in order: import, segments, two broadcasts, an API trigger, live events, dialogue, the CRM."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from examples.demo import content, events, oracle, recount
from examples.demo.api import Api, until
from examples.demo.checks import Checks
from examples.demo.people import Person, make

DATA = Path(__file__).parents[1] / "data" / "CDNOW_master.txt.gz"
CONSUMER = Path(__file__).parents[1] / "crm_consumer.py"
TRIGGERED, LIVE = 50, 20


class Story:
    """Everything the demo does with a fresh stack. `customers` limits it to the first so many."""

    def __init__(
        self,
        state: dict[str, Any],
        checks: Checks,
        console: Console,
        last_day: date,
        folder: Path,
        customers: int | None,
    ):
        self.api = Api(state)
        self.state, self.checks, self.console, self.last_day, self.folder = state, checks, console, last_day, folder
        self.rows = events.rows(str(DATA))
        if customers:
            wanted = set(sorted({r[1] for r in self.rows})[:customers])
            self.rows = [r for r in self.rows if r[1] in wanted]
        self.people = make(sorted({r[1] for r in self.rows}))
        self.seconds: dict[str, float] = {}
        self.expected: dict[str, int] = {"touches": 0, "sent": 0, "deferred": 0, "skipped": 0}
        self.actual: dict[str, int] = dict.fromkeys(self.expected, 0)
        self.captured = {"email": 0, "sms": 0, "messaging": 0}
        self.members: dict[str, list[str]] = {}

    def run(self) -> None:
        for name, step in (
            ("import", self.import_everything),
            ("segments", self.segments),
            ("broadcast", self.spring),
            ("gated broadcast", self.vip),
            ("API trigger", self.api_trigger),
            ("live events", self.live),
            ("dialogue", self.dialogue),
            ("totals", self.totals),
        ):
            begun = time.monotonic()
            self.console.print(f"[bold]{name}[/]")
            step()
            self.seconds[name.replace(" ", "_").lower()] = round(time.monotonic() - begun, 1)

    # -- import

    def import_everything(self) -> None:
        introduced = events.introductions(list(self.people.values()))
        bought = events.purchases(self.rows, self.last_day)
        self._send("people and consents", introduced)
        self._send("purchases", bought)
        self.api.drained()
        counted = self.api.warehouse(
            f"SELECT count() FROM rondo.member_events WHERE kind = 'track' AND name = '{content.ORDER}' FORMAT TSV"
        )
        self.checks.add("events_accepted", int(counted), len(self.rows), "file")
        everybody = {"bucket": {"seed": "all", "from": 0.0, "to": 1.0}}
        found = self.api.call("POST", "/v1/segments/preview", {"rule": everybody})
        self.checks.add("members", found["count"], len(self.people), "file")

    def _send(self, what: str, batch: list[dict[str, Any]]) -> None:
        columns = (TextColumn(f"  {what:20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task(what, total=len(batch))
            self.api.send_all(batch, lambda n: bar.advance(task, n))

    # -- segments

    def segments(self) -> None:
        for id, body in content.SEGMENTS.items():
            self.api.call("PUT", f"/v1/segments/{id}", body)
        self.api.drained()
        for id in content.SEGMENTS:
            live = until(lambda id=id: self._live(id), f"segment {id} live")
            found = self.api.call("POST", "/v1/segments/preview", {"rule": content.SEGMENTS[id]["rule"]})
            self.members = self._recount(found["as_of"])
            self.checks.add(f"segment.{id}", found["count"], len(self.members[id]), "recount")
            self.checks.add(f"segment.{id}.live", live["count"], len(self.members[id]), "recount")

    def _live(self, id: str) -> Any:
        found = self.api.call("GET", f"/v1/segments/{id}")
        return found if found["status"] == "live" else None

    def _recount(self, as_of: str) -> dict[str, list[str]]:
        """Counted by a process of its own that imports nothing of Rondo."""
        command = [sys.executable, recount.__file__, str(DATA), self.last_day.isoformat(), as_of, "--members"]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return {id: [m for m in members if m in self.people] for id, members in found.items()}

    def _in(self, segment: str) -> list[Person]:
        return [self.people[c] for c in self.members[segment]]

    # -- broadcasts

    def spring(self) -> None:
        """Three channels, no quiet hours, no budget."""
        for id, body in content.TEMPLATES.items():
            self.api.call("PUT", f"/v1/templates/{id}", body)
        for id, body in content.CAMPAIGNS.items():
            self.api.call("PUT", f"/v1/campaigns/{id}", body)
        wanted = oracle.broadcast(self._in("loyal"), "offers", datetime.now(UTC))
        self.sent_spring = {c for sent in wanted["send"].values() for c in sent}
        self._broadcast("spring", wanted)

    def vip(self) -> None:
        """Quiet hours where the member lives, and a budget that the first broadcast has used."""
        now = datetime.now(UTC)
        # edges half an hour away from now in every zone, so that a slow second decides nothing
        edge = (now.minute + 30) % 60
        start, end = f"{(now.hour + 1 + 20) % 24:02d}:{edge:02d}", f"{(now.hour + 1 + 5) % 24:02d}:{edge:02d}"
        for path, body in content.policies(start, end).items():
            self.api.call("PUT", f"/v1/policies/{path}", body)
        self.quiet = (start, end)
        self.api.drained()
        already = frozenset(self.sent_spring)
        wanted = oracle.broadcast(self._in("high-value"), "offers", datetime.now(UTC), self.quiet, already)
        self._broadcast("vip", wanted)

    def _broadcast(self, campaign: str, wanted: dict[str, dict[str, list[str]]]) -> None:
        run_id = self.api.call("POST", f"/v1/campaigns/{campaign}/start")["run_id"]
        run = self.api.run_done(run_id)
        sums = {verdict: sum(len(m) for m in by.values()) for verdict, by in wanted.items()}
        counts, reasons = run["counts"], run["reasons"]
        assert sum(counts.values()) == run["touches"], f"counts of {run_id} do not sum to its touches: {run}"
        self.checks.add(f"{campaign}.touches", run["touches"], sum(sums.values()), "oracle")
        for word, verdict in (("sent", "send"), ("deferred", "defer"), ("skipped", "skip")):
            self.checks.add(f"{campaign}.{word}", counts[word], sums[verdict], "oracle")
            self.expected[word] += sums[verdict]
            self.actual[word] += counts[word]
        for word, verdict in (("deferred", "defer"), ("skipped", "skip")):
            for reason in sorted({*wanted[verdict], *reasons.get(word, {})}):
                count = len(wanted[verdict].get(reason, []))
                self.checks.add(f"{campaign}.{word}.{reason}", reasons.get(word, {}).get(reason, 0), count, "oracle")
        self.expected["touches"] += sum(sums.values())
        self.actual["touches"] += run["touches"]
        for channel, members in wanted["send"].items():
            self.captured[channel] += len(members)

    # -- triggered messages

    def api_trigger(self) -> None:
        self.api.call("POST", "/v1/campaigns/thanks/start")
        named = [p for p in self.people.values() if p.email][:TRIGGERED]
        body = {"per_user_data": [{"id": p.user_id, "data": {"code": f"X{n}"}} for n, p in enumerate(named)]}
        run = self.api.call("POST", "/v1/campaigns/thanks/triggers", body)
        self.api.run_done(run["run_id"])
        codes = {(m["to"], m["subject"]) for m in self.api.inbox(campaign="thanks")}
        right = sum((p.email, f"Your code X{n}") in codes for n, p in enumerate(named))
        self.checks.add("api_triggered", right, len(named), "script")
        self.captured["email"] += len(named)

    def live(self) -> None:
        """Events through the Segment SDK, as an application would send them."""
        import segment.analytics as analytics

        self.api.call("POST", "/v1/campaigns/cart/start")
        self.api.drained()
        at = datetime.now(UTC)
        picked = [
            p for p in self.people.values()
            if p.email and p.consents.get(("email", "*")) == "granted" and not oracle.quiet(p, at, *self.quiet)
        ][:LIVE]  # fmt: skip
        analytics.write_key = self.state["keys"]["write"]
        analytics.host = self.state["services"]["ingestion"]["http"]
        failures: list[Any] = []
        analytics.on_error = lambda error, _: failures.append(error)
        for p in picked:
            analytics.track(p.user_id, "Cart Abandoned", {"total": 25.0, "product": "Kind of Blue"})
            analytics.track(p.user_id, "Cart Abandoned", {"total": 5.0, "product": "a sticker"})
        analytics.flush()
        analytics.shutdown()
        if failures:
            raise RuntimeError(f"the SDK failed: {failures[0]}")
        ready: Callable[[], Any] = lambda: len(self.api.inbox(campaign="cart")) >= len(picked)  # noqa: E731
        if picked:
            until(ready, "triggered messages")
        self.api.drained()
        found = {m["to"] for m in self.api.inbox(campaign="cart") if "Kind of Blue" in m["text"]}
        self.checks.add("triggered", len(found & {p.email for p in picked}), len(picked), "script")
        self.captured["email"] += len(picked)

    # -- dialogue

    def dialogue(self) -> None:
        """Two members ask, one says STOP; an operator answers one and closes it."""
        texts = self.api.inbox(channel="sms", campaign="spring")[:3]
        by_phone = {p.phone: p for p in self.people.values() if p.phone}
        for message, words in zip(texts, ("when do you open?", "do you have vinyl?", "STOP"), strict=False):
            self.api.call("POST", f"/v1/inbox/messages/{message['id']}/reply", {"text": words})
        asking = texts[:2]
        found = until(lambda: self._open(len(asking)), "conversations") if asking else []
        self.checks.add("conversation", len(found), len(asking), "script")
        if found:
            first = found[0]
            self.api.call("POST", f"/v1/conversations/{first['id']}/reply", {"text": "At nine."})
            until(
                lambda: [m for m in self.api.inbox(channel="sms") if m["text"] == "At nine."], "the operator's answer"
            )
            self.api.call("POST", f"/v1/conversations/{first['id']}/close")
            self.captured["sms"] += 1
        if len(texts) == 3:
            who = by_phone[texts[2]["to"]]
            path = f"/v1/members/{who.user_id}/consent"

            def stopped():
                return [
                    c
                    for c in self.api.call("GET", path)["consents"]
                    if (c["channel"], c["topic"], c["state"]) == ("sms", "*", "denied")
                ]

            self.checks.add("stop", len(until(stopped, "STOP")), 1, "script")
            self.captured["sms"] += 1  # the one confirmation
            until(lambda: len(self.api.inbox(to=who.phone)) >= 2, "the confirmation of STOP")
        self.api.drained()

    def _open(self, wanted: int) -> Any:
        found = self.api.call("GET", "/v1/conversations", status="open")["data"]
        return found if len(found) >= wanted else None

    # -- totals

    def totals(self) -> None:
        for word in self.expected:
            self.checks.add(word, self.actual[word], self.expected[word], "oracle")
        stats = self.api.call("GET", "/v1/inbox/stats")
        for channel, expected in self.captured.items():
            self.checks.add(f"captured.{channel}", stats["by_channel"].get(channel, 0), expected, "oracle")
        self.checks.add("inbox.repeats", stats["repeats"], 0, "script")
        db = self.folder / "crm.sqlite"
        db.unlink(missing_ok=True)
        command = [sys.executable, str(CONSUMER), "--kafka", self.state["kafka"], "--db", str(db), "--until-idle", "2"]
        subprocess.run(command, check=True, capture_output=True)
        with sqlite3.connect(db) as crm:
            (sent,) = crm.execute("SELECT count(*) FROM messages WHERE sent = 1").fetchone()
            (loyal,) = crm.execute("SELECT count(*) FROM segments WHERE segment = 'loyal'").fetchone()
        self.checks.add("crm.rows", sent, stats["total"], "inbox")
        self.checks.add("crm.segment.loyal", loyal, len(self.members["loyal"]), "recount")
