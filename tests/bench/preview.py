"""Audience previews over a million members and ten million events.

The rows are made inside the engine by seeded hashes, in the shape the feed writes (`people`, `facts`,
`deliveries`, `engagement`: services/insights), through insights' own HTTP endpoint. Then ten rules are
asked of the gateway's REST, one at a time, as shipped: gateway, segmentation, insights (is the warehouse
up to date?), the query, back. Afterwards the system is stopped and a bare engine answers the same
statements on the same folder.
"""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.binding import format_bind_value

from services.insights.facts import BIAS, SETTINGS
from services.segmentation.parse import parse
from services.segmentation.sql.question import Standing, ask
from tests.bench.baselines import engine
from tests.bench.frame import Figure, Usage, World, quantile
from tests.support.stack import Stack

NAME = "preview"
TITLE = "audience previews over 1,000,000 members and 10,000,000 events"
GOAL = 150.0
BLOCK = 1_000_000

RULES: dict[str, dict[str, Any]] = {
    "bought in 90 days": {"event": {"name": "Order Completed", "within": "P90D"}},
    "loyal: 3 orders in a year": {
        "event": {"name": "Order Completed", "measure": "count", "operator": "gte", "value": 3, "within": "P365D"}
    },
    "spent over 100 ever": {
        "event": {"name": "Order Completed", "measure": "sum", "property": "total", "operator": "gt", "value": 100}
    },
    "a large order": {
        "event": {
            "name": "Order Completed",
            "where": [{"property": "total", "operator": "gte", "value": 90}],
            "within": "P180D",
        }
    },
    "gold plan": {"trait": {"field": "plan", "operator": "eq", "value": "gold"}},
    "gold, bought lately": {
        "and": [
            {"trait": {"field": "plan", "operator": "eq", "value": "gold"}},
            {"event": {"name": "Order Completed", "within": "P30D"}},
        ]
    },
    "carts left": {
        "and": [
            {"event": {"name": "Cart Abandoned", "within": "P14D"}},
            {"not": {"event": {"name": "Order Completed", "within": "P14D"}}},
        ]
    },
    "may be mailed": {
        "and": [
            {"consent": {"channel": "email", "topic": "offers", "state": "granted"}},
            {"reachable": {"channel": "email"}},
        ]
    },
    "lapsing: last order 60 days ago": {
        "event": {"name": "Order Completed", "measure": "last", "operator": "before", "value": {"ago": "P60D"}}
    },
    "clicked, in Europe": {
        "and": [
            {"message": {"action": "clicked", "actor": "human", "within": "P90D"}},
            {"trait": {"field": "country", "operator": "in", "value": ["FR", "DE", "IT"]}},
        ]
    },
    "a tenth of all": {"bucket": {"seed": "ab1", "from": 0.0, "to": 0.1}},
}

_M = "reinterpretAsUInt128(sipHash128(toUInt64({n})))"
_ORD = f"bitOr(bitShiftLeft(toUInt128(at + {BIAS}), 64), toUInt128(9223372036854775808) + number)"
_EVENTS = "['Product Viewed','Product Viewed','Product Viewed','Product Searched','Product Searched','Order Completed','Order Completed','Cart Abandoned','Page Visited','Signed In']"


def _insert(table: str, columns: str, select: str, rows: int, first: int) -> str:
    settings = ", ".join(f"{k} = {v}" for k, v in SETTINGS.items())
    return f"INSERT INTO rondo.{table} ({columns}) SELECT {select} FROM numbers({first}, {rows}) SETTINGS {settings}"


def _statements(members: int, events: int, now: int) -> list[str]:
    """Everything, a block at a time. One member in ten is anonymous, one in fifty merged into another."""
    day = 86_400_000
    found: list[str] = []

    def fill(table: str, columns: str, select: str, rows: int) -> None:
        blocks = range(0, rows, BLOCK)
        found.extend(_insert(table, columns, select, min(BLOCK, rows - first), first) for first in blocks)

    own = _M.format(n="number")
    people = "_topic, _partition, _offset, workspace, status, m, user_id, `into`, holds"
    fill(
        "people", people,
        f"'rondo.contacts.v1', 0, 0, 'demo', if(number % 10 = 0, 'anonymous', 'known'), {own}, "
        "if(number % 10 = 0, '', concat('u', toString(number))), 0, "
        f"if(number % 40 = 3, [('email', {now} - {day}, 1, 1)], [])", members,
    )  # fmt: skip
    other = _M.format(n="number * 50")
    fill(
        "people", people,
        f"'rondo.contacts.v1', 0, 1, 'demo', 'gone', {other}, '', {_M.format(n='number * 50 + 1')}, []", members // 50,
    )  # fmt: skip
    facts = "workspace, what, m, at, ord, _partition, _offset, said, gone, data, granted"
    traits = (
        "concat('{\"plan\":\"', ['free','gold','silver','trial'][1 + sipHash64(number, 1) % 4], '\",\"country\":\"', "
        "['FR','DE','US','GB','IT'][1 + sipHash64(number, 2) % 5], '\",\"age\":', toString(18 + sipHash64(number, 3) % 60), "
        '\',"firstName":"N\', toString(number % 5000), \'","email":"m\', toString(number), \'@example.com"}\')'
    )
    fill(
        "facts", facts,
        f"'demo', 't', {own}, {now} - {day} * 700 + number % 1000 AS at, {_ORD}, 0, 0, "
        f"['plan','country','age','firstName','email'], [], {traits}::JSON, 0", members,
    )  # fmt: skip
    fill(
        "facts", facts,
        f"'demo', 'c:email:offers', {_M.format(n='intDiv(number * 10, 7)')}, {now} - {day} * 600 AS at, {_ORD}, 0, 0, "
        "[], [], '{}'::JSON, sipHash64(number, 4) % 5 > 0", members * 7 // 10,
    )  # fmt: skip
    fill(
        "facts", facts,
        f"'demo', concat('e:', {_EVENTS}[1 + sipHash64(number, 5) % 10]), {_M.format(n=f'sipHash64(number, 6) % {members}')}, "
        f"{now} - sipHash64(number, 7) % ({day} * 730) AS at, {_ORD}, 0, 0, [], [], "
        "concat('{\"total\":', toString(sipHash64(number, 8) % 10000 / 100), ',\"sku\":\"s', "
        "toString(sipHash64(number, 9) % 1000), '\"}')::JSON, 0", events,
    )  # fmt: skip
    id_of = f"UUIDNumToString(reverse(reinterpretAsFixedString({_M.format(n=f'sipHash64(number, 10) % {members}')})))"
    fill(
        "engagement", "_topic, _partition, _offset, workspace, member_id, at, id, kind, actor, touch_id, campaign",
        f"'rondo.engagement.v1', 0, 0, 'demo', {id_of}, fromUnixTimestamp64Milli({now} - sipHash64(number, 11) % ({day} * 365)), "
        "toString(number), if(number % 3 = 0, 'clicked', 'opened'), if(number % 4 = 0, 'machine', ''), "
        "toString(number), 'spring'", members // 2,
    )  # fmt: skip
    return found


def _load(stack: Stack, members: int, events: int, now: int) -> None:
    url = stack.http("insights")
    for statement in _statements(members, events, now):
        with urllib.request.urlopen(url, data=statement.encode(), timeout=300) as answer:
            answer.read()
    merging = b"SELECT count() FROM system.merges"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with urllib.request.urlopen(url, data=merging, timeout=60) as answer:
            if answer.read().strip() == b"0":
                return
        time.sleep(0.5)


def _preview(stack: Stack, rule: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {stack.admin_key}", "content-type": "application/json"}
    body = json.dumps({"rule": rule}).encode()
    call = urllib.request.Request(stack.http("gateway") + "/v1/segments/preview", body, headers, method="POST")
    began = time.perf_counter()
    try:
        with urllib.request.urlopen(call, timeout=60) as answer:
            found = json.loads(answer.read())
    except urllib.error.HTTPError as e:  # on a busy machine a question may run into its limit of 10 s
        found = {"count": float("nan"), "refused": e.code}
    return (time.perf_counter() - began) * 1000, found


def _bare(folder: Path, members: Standing) -> dict[str, dict[str, Any]]:
    asked = []
    for name, rule in RULES.items():
        node, _ = parse(rule)
        question = ask(node, lambda _: None, "demo", int(time.time() * 1000), 10, members, past=False)
        parameters = {k: str(format_bind_value(v)) for k, v in question.parameters.items()}
        asked.append(json.dumps({"name": name, "sql": question.sql, "parameters": parameters}))
    command = [sys.executable, engine.__file__, str(folder)]
    done = subprocess.run(command, input="\n".join(asked), capture_output=True, text=True, timeout=900, check=True)
    return {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}


def run(world: World) -> list[Figure]:
    members, events = world.size(1_000_000, 20_000), world.size(10_000_000, 200_000)
    repeats = world.size(8, 3)
    now = int(time.time() * 1000)
    with world.stack(only=("segmentation", "insights", "gateway")) as stack:
        _load(stack, members, events, now)
        data = Path(stack.folder) / "data"
        before = Usage.of(stack)
        took: dict[str, list[float]] = {}
        counts: dict[str, float] = {}
        for name, rule in RULES.items():
            _preview(stack, rule)  # the first answer of a rule reads from disk
            found = [_preview(stack, rule) for _ in range(repeats)]
            took[name] = [ms for ms, _ in found]
            counts[name] = found[0][1]["count"]
        used = Usage.of(stack)
        spent = used - before
        with urllib.request.urlopen(stack.http("insights"), data=b"SELECT count() FROM system.parts WHERE active") as a:
            parts = int(a.read())
    (folder,) = data.rglob("warehouse")
    bare = _bare(folder, Standing(gone=members // 50, hops=1))
    alone = [ms for line in bare.values() for ms in line["ms"][1:]]
    together = [ms for each in took.values() for ms in each]
    details: dict[str, float | str] = {
        "p50 ms": round(quantile(together, 0.5), 1),
        "bare p50 ms": round(quantile(alone, 0.5), 1),
        "rss MiB insights": round(used.rss.get("insights", 0.0)),
        "rss MiB segmentation": round(used.rss.get("segmentation", 0.0)),
        "CPU ms a preview": round(sum(spent.values()) / len(together) * 1000, 1),
        "parts": parts,
    }
    figures = [
        Figure("all rules, p95", quantile(together, 0.95), "ms", False, quantile(alone, 0.95), "bare engine p95", GOAL, details)
    ]  # fmt: skip
    for name, each in took.items():
        wanted = json.loads(bare[name]["answer"])[0]
        details = {
            "p50 ms": round(quantile(each, 0.5), 1),
            "bare CPU ms": round(quantile(bare[name]["cpu_ms"][1:], 0.5)),
            "members": counts[name],
            "bare members": float(wanted),
        }
        alone = bare[name]["ms"][1:]
        figures.append(
            Figure(name, quantile(each, 0.95), "ms", False, quantile(alone, 0.95), "bare engine p95", None, details)
        )
    return figures
