"""The Grafana dashboards of deploy/grafana, made from the few lines below.

    python -m tools.grafana        writes deploy/grafana/dashboards/*.json

A test holds the files against this module and every metric they ask for against the code.
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "grafana" / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT = 12, 8


class Panel(NamedTuple):
    """A graph: its lines are (PromQL, legend). `kind` is timeseries, stat or table."""

    title: str
    unit: str
    lines: list[tuple[str, str]]
    text: str = ""
    kind: str = "timeseries"


def rate(metric: str, by: str, where: str = "") -> str:
    """Events a second over the last minute, summed by labels."""
    return f"sum by ({by}) (rate({metric}{where}[1m]))"


def quantile(q: float, metric: str, by: str) -> str:
    """A quantile of a histogram over the last five minutes."""
    return f"histogram_quantile({q}, sum by ({by}, le) (rate({metric}_bucket[5m])))"


DASHBOARDS: dict[str, tuple[str, list[Panel]]] = {
    "overview": (
        "Rondo: overview",
        [
            Panel(
                "Processes that answer", "short", [('sum by (service) (up{job="rondo"})', "{{service}}")], kind="stat"
            ),
            Panel(
                "Records behind",
                "short",
                [("sum by (stage) (rondo_stream_lag)", "{{stage}}")],
                "Records after the last processed one. Rising for minutes: runbook lag-grows.",
            ),
            Panel(
                "Seconds to drain",
                "s",
                [
                    (
                        "sum by (stage) (rondo_stream_lag) / sum by (stage) (rate(rondo_stream_records_total[1m]))",
                        "{{stage}}",
                    )
                ],
                "Lag at the present speed. No line: nothing to do.",
            ),
            Panel("Records a second", "ops", [(rate("rondo_stream_records_total", "stage"), "{{stage}}")]),
            Panel(
                "Dead letters",
                "ops",
                [(rate("rondo_stream_dead_letters_total", "stage, reason"), "{{stage}} {{reason}}")],
                "Anything above zero needs a look: runbook dead-letters.",
            ),
            Panel(
                "Work begun or due", "short", [("sum by (stage, what) (rondo_stream_pending)", "{{stage}} {{what}}")]
            ),
            Panel("CPU", "percentunit", [("rate(process_cpu_seconds_total[1m])", "{{service}}")]),
            Panel("Memory", "bytes", [("process_resident_memory_bytes", "{{service}}")]),
        ],
    ),
    "streams": (
        "Rondo: stream workers",
        [
            Panel("Behind, by topic", "short", [("sum by (stage, topic) (rondo_stream_lag)", "{{stage}} {{topic}}")]),
            Panel("Records in", "ops", [(rate("rondo_stream_records_total", "stage, topic"), "{{stage}} {{topic}}")]),
            Panel("Records out", "ops", [(rate("rondo_stream_emitted_total", "stage, topic"), "{{stage}} {{topic}}")]),
            Panel(
                "Transactions a second",
                "ops",
                [(rate("rondo_stream_transactions_total", "stage, outcome"), "{{stage}} {{outcome}}")],
                "At most 120 committed a second over all stages of one broker; aborted ones: runbook transactions-fail.",
            ),
            Panel(
                "Commit, p50 and p99",
                "s",
                [
                    (quantile(0.5, "rondo_stream_commit_seconds", "stage"), "{{stage}} p50"),
                    (quantile(0.99, "rondo_stream_commit_seconds", "stage"), "{{stage}} p99"),
                ],
            ),
            Panel(
                "Inputs of a transaction, p50",
                "short",
                [(quantile(0.5, "rondo_stream_batch_inputs", "stage"), "{{stage}}")],
            ),
            Panel(
                "Partitions live and restoring",
                "short",
                [
                    ("sum by (stage) (rondo_stream_partitions_live)", "{{stage}} live"),
                    ("sum by (stage) (rondo_stream_partitions_restoring)", "{{stage}} restoring"),
                ],
                "Restoring for minutes: runbook restoring-for-long.",
            ),
            Panel("Restores begun", "ops", [(rate("rondo_stream_restores_total", "stage, why"), "{{stage}} {{why}}")]),
            Panel(
                "State records restored", "ops", [(rate("rondo_stream_restored_records_total", "stage"), "{{stage}}")]
            ),
            Panel(
                "State size, p50 and p99",
                "bytes",
                [
                    (quantile(0.5, "rondo_stream_state_bytes", "stage"), "{{stage}} p50"),
                    (quantile(0.99, "rondo_stream_state_bytes", "stage"), "{{stage}} p99"),
                ],
                "Under 4 KB is the aim, above 16 KB is counted: runbook state-too-big.",
            ),
            Panel(
                "Nothing to do, by reason",
                "ops",
                [(rate("rondo_stream_dropped_total", "stage, reason"), "{{stage}} {{reason}}")],
            ),
            Panel("Records offered too early", "ops", [(rate("rondo_stream_waits_total", "stage"), "{{stage}}")]),
        ],
    ),
    "ingestion": (
        "Rondo: ingestion and HTTP",
        [
            Panel("Events a second", "ops", [(rate("rondo_ingest_events_total", "outcome"), "{{outcome}}")]),
            Panel(
                "Segment calls", "ops", [(rate("rondo_ingest_requests_total", "call, status"), "{{call}} {{status}}")]
            ),
            Panel(
                "Wait for Kafka's acknowledgement",
                "s",
                [
                    (quantile(0.5, "rondo_ingest_ack_seconds", "service"), "p50"),
                    (quantile(0.99, "rondo_ingest_ack_seconds", "service"), "p99"),
                ],
            ),
            Panel(
                "Records that wait, and requests shed",
                "short",
                [
                    ("sum(rondo_ingest_in_flight_records)", "in flight"),
                    (rate("rondo_ingest_shed_total", "reason"), "shed {{reason}}"),
                ],
                "Shed requests were answered 503 with Retry-After: Kafka is slow or away.",
            ),
            Panel(
                "Provider callbacks",
                "ops",
                [
                    (rate("rondo_callback_records_total", "provider, kind"), "{{provider}} {{kind}}"),
                    (rate("rondo_callback_refused_total", "provider"), "{{provider}} refused"),
                ],
                "Refused: the signature was wrong.",
            ),
            Panel("Rows of file imports", "ops", [(rate("rondo_import_rows_total", "outcome"), "{{outcome}}")]),
            Panel(
                "HTTP requests by route",
                "ops",
                [
                    (
                        rate("rondo_http_request_seconds_count", "service, route, status"),
                        "{{service}} {{route}} {{status}}",
                    )
                ],
            ),
            Panel(
                "HTTP p99 by route",
                "s",
                [(quantile(0.99, "rondo_http_request_seconds", "service, route"), "{{service}} {{route}}")],
            ),
        ],
    ),
    "messages": (
        "Rondo: decisions and messages",
        [
            Panel(
                "Decisions of the gate",
                "ops",
                [(rate("rondo_stream_tally_total", "what", '{stage="rhythm"}'), "{{what}}")],
                "The verdict, and the reason of what waits or is left out. For one member: GET /v1/explain.",
            ),
            Panel(
                "Delivery records",
                "ops",
                [(rate("rondo_stream_emitted_total", "stage, topic", '{stage=~"delivery.*"}'), "{{stage}} {{topic}}")],
            ),
            Panel(
                "Provider calls",
                "ops",
                [(rate("rondo_delivery_calls_total", "channel, verdict"), "{{channel}} {{verdict}}")],
            ),
            Panel(
                "Not accepted, by reason",
                "ops",
                [
                    (
                        rate("rondo_delivery_calls_total", "channel, verdict, reason", '{verdict!="accepted"}'),
                        "{{channel}} {{verdict}} {{reason}}",
                    )
                ],
                "Unknown ones: runbook outcome-unknown.",
            ),
            Panel(
                "Provider call, p50 and p99",
                "s",
                [
                    (quantile(0.5, "rondo_delivery_call_seconds", "channel"), "{{channel}} p50"),
                    (quantile(0.99, "rondo_delivery_call_seconds", "channel"), "{{channel}} p99"),
                ],
            ),
            Panel(
                "Opens, clicks, unsubscribes",
                "ops",
                [
                    (rate("rondo_links_engagement_total", "kind, actor"), "{{kind}} {{actor}}"),
                    (rate("rondo_links_lost_total", "service"), "lost"),
                ],
                "actor: human or machine (scanners and prefetchers).",
            ),
            Panel(
                "STOP marks that could not be set", "ops", [("sum(rate(rondo_stop_marks_failed_total[5m]))", "failed")]
            ),
            Panel(
                "Waiting in delivery",
                "short",
                [('sum by (stage, what) (rondo_stream_pending{stage=~"delivery.*|rhythm"})', "{{stage}} {{what}}")],
            ),
        ],
    ),
}


def dashboard(uid: str) -> dict[str, Any]:
    """One dashboard as Grafana reads it."""
    title, panels = DASHBOARDS[uid]
    return {
        "uid": f"rondo-{uid}",
        "title": title,
        "tags": ["rondo"],
        "timezone": "browser",
        "schemaVersion": 41,
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {
            "list": [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "links": [{"type": "dashboards", "tags": ["rondo"], "title": "Rondo", "asDropdown": True}],
        "panels": [_panel(i, panel) for i, panel in enumerate(panels)],
    }


def _panel(i: int, panel: Panel) -> dict[str, Any]:
    return {
        "id": i + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": {"x": i % 2 * WIDTH, "y": i // 2 * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "table", "placement": "right", "calcs": ["last", "max"]}}
        if panel.kind == "timeseries"
        else {},
        "targets": [
            {"refId": chr(65 + n), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
            for n, (expr, legend) in enumerate(panel.lines)
        ],
    }


def text(uid: str) -> str:
    """The file of a dashboard."""
    return json.dumps(dashboard(uid), indent=1) + "\n"


def main() -> int:
    """Write all of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for uid in DASHBOARDS:
        (FOLDER / f"{uid}.json").write_text(text(uid))
    return 0


if __name__ == "__main__":
    sys.exit(main())
