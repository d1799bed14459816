"""Metrics have one naming scheme; alerts and dashboards ask only for metrics that exist; each alert has a runbook."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from tools import grafana

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
FROM_THE_CLIENT = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
LABELS = {
    *("actor", "call", "channel", "kind", "method", "outcome", "partition", "provider", "reason", "route", "stage"),
    *("status", "topic", "verdict", "what", "why"),
}
"""Each has a small number of values. A label that could hold a member, an address or an id is not among them."""


def made() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Every metric of the code: name -> (kind, labels)."""
    found = {}
    for path in [*ROOT.glob("libs/**/*.py"), *ROOT.glob("services/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = node.func.value
            kind = node.func.attr
            if isinstance(owner, ast.Name) and owner.id == "telemetry" and kind in ("counter", "gauge", "histogram"):
                name, labels = node.args[0], node.args[2] if len(node.args) > 2 else ast.Tuple([])
                assert isinstance(name, ast.Constant), f"{path}: a metric's name is written out"
                found[name.value] = (kind, ast.literal_eval(labels))
    return found


METRICS = made()


def alerts() -> list[dict]:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    return [rule for group in rules["groups"] for rule in group["rules"]]


def asked_for(expression: str) -> set[str]:
    """Names of metrics in PromQL, histograms by their own name."""
    bare = re.sub(r'"[^"]*"|\b(?:by|on|without|ignoring)\s*\([^)]*\)|\[[^\]]*\]', " ", expression)
    bare = re.sub(r"\{[^}]*\}", " ", bare)
    names = set(re.findall(r"[a-z_][a-z0-9_]*", bare)) - {"sum", "rate", "increase", "deriv", "histogram_quantile"}
    names -= {"and", "or", "unless", "max", "min", "clamp_min"}
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}


@pytest.mark.parametrize("name", sorted(METRICS))
def test_names_say_area_thing_and_unit(name):
    kind, labels = METRICS[name]
    assert re.fullmatch(r"rondo_[a-z]+(_[a-z0-9]+)+", name)
    assert (kind == "counter") == name.endswith("_total")
    if kind == "histogram":
        assert name.endswith(("_seconds", "_bytes", "_inputs"))
    assert set(labels) <= LABELS


def test_dashboards_are_as_the_tool_writes_them():
    files = {path.stem: path.read_text() for path in grafana.FOLDER.glob("*.json")}
    assert files == {uid: grafana.text(uid) for uid in grafana.DASHBOARDS}, "run python -m tools.grafana"
    assert len(files) == 4


@pytest.mark.parametrize("uid", grafana.DASHBOARDS)
def test_dashboards_ask_for_metrics_that_exist(uid):
    panels = json.loads(grafana.text(uid))["panels"]
    for target in (t for panel in panels for t in panel["targets"]):
        assert asked_for(target["expr"]) <= set(METRICS) | FROM_THE_CLIENT, target["expr"]


@pytest.mark.parametrize("rule", alerts(), ids=lambda r: r["alert"])
def test_alerts_ask_for_metrics_that_exist_and_have_a_runbook(rule):
    assert asked_for(rule["expr"]) <= set(METRICS) | FROM_THE_CLIENT
    page = ROOT / rule["annotations"]["runbook"]
    assert page.is_file()
    assert rule["alert"] in page.read_text(), f"{page.name} names its alert"
    assert rule["alert"] in (RUNBOOKS / "README.md").read_text()
