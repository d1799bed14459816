"""The document in .rondo/state.json (WIRE 1), from what runs."""

import os
from typing import Any

from rondo_cli.local.managed import Managed
from rondo_cli.local.plan import Instance, Plan


def document(
    plan: Plan,
    status: str,
    began: int,
    servers: list[Managed],
    services: list[tuple[Instance, Managed]],
    phases: dict[str, float],
) -> dict[str, Any]:
    """The whole state. `status`: starting, ready, degraded (something is being started again or held),
    stopping, stopped, failed. `began`: the supervisor's start time in clock ticks. `phases`: seconds from
    there until a part of the start was done."""
    over = status in ("stopped", "failed")
    by_name: dict[str, list[tuple[Instance, Managed]]] = {}
    for instance, managed in services:
        by_name.setdefault(instance.process.name, []).append((instance, managed))
    capture: dict[str, Any] = {
        "smtp": plan.addresses.capture["smtp"],
        **{k: f"http://{plan.addresses.capture[k]}" for k in ("sendgrid", "twilio", "telegram")},
    }
    if "capture" in by_name:
        capture |= _service(by_name.pop("capture"), plan)
    return {
        "version": 1,
        "status": status,
        "workspace": plan.workspace,
        "kafka": plan.addresses.kafka,
        "redis": plan.addresses.redis,
        "keys": {"write": plan.secrets["RONDO_WRITE_KEY"], "admin": plan.secrets["RONDO_ADMIN_KEY"]},
        "services": {name: _service(all_of, plan) for name, all_of in by_name.items()},
        "capture": capture,
        "servers": {m.spec.name: {"pid": m.pid, "status": m.status, "restarts": max(0, m.restarts)} for m in servers},
        "test_clock": plan.options.test_clock is not None,
        "external": plan.options.external,
        "supervisor": None if over else {"pid": os.getpid(), "started": began},
        "phases": phases,
        "logs": str(plan.options.folder / "logs"),
    }


def _service(all_of: list[tuple[Instance, Managed]], plan: Plan) -> dict[str, Any]:
    instances = [_instance(i, m) for i, m in all_of]
    first = instances[0]
    out: dict[str, Any] = {k: first[k] for k in ("http", "grpc", "metrics", "pid") if k in first}
    out["http"] = plan.addresses.http[all_of[0][0].process.name]
    worst = next((i["status"] for i in instances if i["status"] != "ready"), "ready")
    return {**out, "status": worst, "instances": instances}


def _instance(instance: Instance, managed: Managed) -> dict[str, Any]:
    out: dict[str, Any] = {
        "slot": instance.slot,
        "pid": managed.pid,
        "http": instance.http,
        "metrics": f"{instance.http}/metrics",
        "status": managed.status,
        "restarts": max(0, managed.restarts),
    }
    if "grpc" in instance.ports:
        out["grpc"] = f"127.0.0.1:{instance.ports['grpc']}"
    if managed.note:
        out["note"] = managed.note
    return out
