"""What may be written as a policy, and what refusals point at."""

import json

import pytest

from rondo_common.problems import Problem
from services.rhythm.policies import validate
from tests.support.rhythm_samples import EVERY_DAY, budget, definition, night, policies

QUIET = {
    "kind": "quiet_hours",
    "id": "sms-night",
    "channels": ["sms"],
    "classes": ["marketing"],
    "windows": [{"days": EVERY_DAY, "from": "21:00", "to": "08:00"}],
    "timezone": ["member", "phone_region", "workspace"],
}
BUDGET = {
    "kind": "budget",
    "id": "weekly",
    "channels": ["*"],
    "topics": ["*"],
    "limit": 3,
    "per": "P7D",
    "weights": {"sms": 2, "email": 1},
    "min_gap": "PT4H",
    "on_exceed": "defer",
}
CONFLICT = {"kind": "conflict", "id": "default", "window": {"triggered": "PT0S", "bulk": "PT1S"}, "loser": "defer"}


@pytest.mark.parametrize("body", [QUIET, BUDGET, CONFLICT])
def test_the_contracts_own_examples_are_kept_as_they_are(body):
    assert validate(body["kind"], body["id"], json.dumps(body).encode()) == body


def changed(body, **changes):
    return {k: v for k, v in {**body, **changes}.items() if v is not ...}


REFUSED = [
    (changed(QUIET, windows=[]), "/windows"),
    (changed(QUIET, windows=...), "/windows"),
    (changed(QUIET, windows=[{"days": ["mo"], "from": "25:00", "to": "08:00"}]), "/windows/0/from"),
    (changed(QUIET, windows=[{"days": ["mo"], "from": "24:00", "to": "08:00"}]), "/windows/0/from"),
    (changed(QUIET, windows=[{"days": ["mo"], "from": "20:00", "to": "8:00"}]), "/windows/0/to"),
    (changed(QUIET, windows=[{"days": ["xx"], "from": "20:00", "to": "08:00"}]), "/windows/0/days/0"),
    (changed(QUIET, windows=[{"days": EVERY_DAY, "from": "00:00", "to": "24:00"}]), "/windows"),
    (changed(QUIET, windows=[{"days": ["mo"], "from": "20:00", "to": "08:00", "x": 1}]), "/windows/0/x"),
    (changed(QUIET, timezone=["moon"]), "/timezone/0"),
    (changed(QUIET, channels=["fax"]), "/channels/0"),
    (changed(QUIET, id="other"), "/id"),
    (changed(QUIET, extra=1), "/extra"),
    (changed(BUDGET, limit=-1), "/limit"),
    (changed(BUDGET, limit="3"), "/limit"),
    (changed(BUDGET, per=...), "/per"),
    (changed(BUDGET, per="P0D"), "/per"),
    (changed(BUDGET, per="1 week"), "/per"),
    (changed(BUDGET, min_gap="P1M"), "/min_gap"),
    (changed(BUDGET, on_exceed="drop"), "/on_exceed"),
    (changed(BUDGET, kind="quiet_hours"), "/kind"),
    (changed(CONFLICT, window={"bulk": "x"}), "/window/bulk"),
    (changed(CONFLICT, loser="win"), "/loser"),
]


@pytest.mark.parametrize(("body", "pointer"), REFUSED)
def test_refused_with_the_pointer_of_the_mistake(body, pointer):
    kind = "budget" if "per" in body or "limit" in body else "conflict" if "loser" in body else "quiet_hours"
    with pytest.raises(Problem) as e:
        validate(
            kind,
            {"budget": "weekly", "conflict": "default", "quiet_hours": "sms-night"}[kind],
            json.dumps(body).encode(),
        )
    assert e.value.status == 422
    assert pointer in [x["pointer"] for x in e.value.errors]


@pytest.mark.parametrize(("kind", "id", "body", "status"), [
    ("quiet_hours", "a", b"{", 400),
    ("quiet_hours", "a", b"\xff\xfe", 400),
    ("quiet_hours", "a", b"[]", 422),
    ("quiet_hours", "A B", json.dumps(changed(QUIET, id=...)).encode(), 422),
    ("holiday", "a", b"{}", 404),
])  # fmt: skip
def test_other_refusals(kind, id, body, status):
    with pytest.raises(Problem) as e:
        validate(kind, id, body)
    assert e.value.status == status


def test_deleted_and_transactional_only_policies_hold_nothing():
    assert policies(night(), budget()).longest == 7 * 86_400_000
    assert len(policies(night(), budget()).quiet) == 1
    assert policies(definition("budget", "weekly", 2, deleted=True)).budgets == ()
    assert policies(night(classes=["transactional"])).quiet == ()
