"""docker-compose.yml, the Kubernetes manifests and Prometheus say what the topology says, and the
manifests pass Kubernetes' own schemas."""

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from rondo_cli.local import kafka, topology
from rondo_common.settings import Settings
from services.__main__ import SERVICES

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
SHARED = topology.shared_environment(topology.fixed_addresses())
CONTAINER = {"RONDO_HOST": "0.0.0.0", "RONDO_DATA_DIR": "/data"}


def documents(path: Path) -> list[dict]:
    return [d for d in yaml.safe_load_all(path.read_text()) if d]


def manifests(*parts: str) -> list[dict]:
    found = []
    for path in sorted(KUBERNETES.joinpath(*parts).glob("*.yaml")):
        found += [d for d in documents(path) if d["kind"] != "Kustomization"]
    return found


def as_text(env: dict) -> dict[str, str]:
    return {k: str(v) for k, v in env.items()}


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_the_topology_names_the_services_that_exist():
    assert [p.name for p in topology.PROCESSES] != []
    assert {p.name for p in topology.PROCESSES} == set(SERVICES)


def test_every_variable_is_a_setting():
    known = {f"RONDO_{name.upper()}" for name in Settings.model_fields}
    told = set(SHARED) | set(topology.CAPTURE_SECRETS) | topology.USER_WINS | set(CONTAINER)
    for process in topology.PROCESSES:
        told |= set(topology.own_environment(process, topology.port_names(process)))
    assert told <= known, f"no such settings: {sorted(told - known)}"


def test_ports_are_unique():
    ports = [port for p in topology.PROCESSES for port in topology.port_names(p).values()]
    ports += [topology.KAFKA_PORT, topology.KAFKA_CONTROLLER_PORT, topology.REDIS_PORT]
    assert len(ports) == len(set(ports))


def test_compose_runs_the_same_processes(compose):
    beside = {"kafka", "redis", "topics", "prometheus", "grafana"}
    assert set(compose["services"]) - beside == {p.name for p in topology.PROCESSES}


@pytest.mark.parametrize("process", topology.PROCESSES, ids=lambda p: p.name)
def test_compose_tells_each_process_the_same(compose, process):
    service = compose["services"][process.name]
    ports = topology.port_names(process)
    assert service["command"] == process.command()
    assert as_text(service["environment"]) == CONTAINER | SHARED | topology.own_environment(process, ports)
    published = [f"127.0.0.1:{process.http}:{process.http}"]
    assert service.get("ports", []) == (published if process.public or process is topology.CAPTURE else [])
    assert service["healthcheck"]["test"] == ["CMD", "python", "-m", "rondo_cli.local.probe", str(process.http)]
    assert set(service["depends_on"]) == {"topics", "redis"}


def test_compose_runs_the_same_kafka_and_redis(compose):
    broker = compose["services"]["kafka"]
    assert broker["image"].endswith(":4.3.1")
    env = as_text(broker["environment"])
    for name, value in kafka.PROPERTIES.items():
        assert env[f"KAFKA_{name.upper().replace('.', '_')}"] == value
    assert "noeviction" in compose["services"]["redis"]["command"]


def test_secrets_are_asked_for_by_name():
    lines = (ROOT / "deploy" / "env" / "rondo.env.example").read_text().splitlines()
    names = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    assert set(topology.CAPTURE_SECRETS) <= names
    assert not [line for line in lines if re.match(r"RONDO_.*(KEY|SECRET|TOKEN)=.", line)]


def test_prometheus_looks_at_every_process():
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    assert set(job["static_configs"][0]["targets"]) == {f"{p.name}:{p.http}" for p in topology.PROCESSES}


def test_alerts_name_metrics_that_exist():
    import rondo_common.streams.metrics  # noqa: F401 - registers them
    from rondo_common import telemetry

    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    text = " ".join(rule["expr"] for group in rules["groups"] for rule in group["rules"])
    wanted = set(re.findall(r"rondo_\w+", text))
    assert wanted
    exposed = {m.name for m in telemetry.REGISTRY.collect()}
    assert {w.removesuffix("_total") for w in wanted} <= exposed


EVERY_FILE = sorted(p for p in KUBERNETES.rglob("*.yaml"))


@pytest.mark.parametrize("path", EVERY_FILE, ids=lambda p: str(p.relative_to(KUBERNETES)))
def test_manifests_pass_kubernetes_schemas(path):
    for document in documents(path):
        if document["kind"] != "Kustomization":
            kubernetes_validate.validate(document, "1.34", strict=True)


def test_the_schema_check_can_fail():
    broken = manifests("base")[0] | {"spec": {"prots": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.34", strict=True)


def test_kustomizations_name_every_file_and_no_other():
    for path in KUBERNETES.rglob("kustomization.yaml"):
        config = yaml.safe_load(path.read_text())
        named = {r for r in config["resources"] if r.endswith(".yaml")} | {p["path"] for p in config.get("patches", ())}
        assert named == {p.name for p in path.parent.glob("*.yaml")} - {"kustomization.yaml"}, path
        for folder in (r for r in config["resources"] if not r.endswith(".yaml")):
            assert (path.parent / folder / "kustomization.yaml").is_file()


def workload(name: str) -> dict:
    found = [*manifests("base"), *manifests("overlays", "sandbox")]
    [one] = [d for d in found if d["kind"] in ("Deployment", "StatefulSet") and d["metadata"]["name"] == name]
    return one


@pytest.mark.parametrize("process", topology.PROCESSES, ids=lambda p: p.name)
def test_kubernetes_runs_the_same_processes(process):
    made = workload(process.name)
    [container] = made["spec"]["template"]["spec"]["containers"]
    assert container["args"] == process.command()
    ports = topology.port_names(process)
    assert sorted(p["containerPort"] for p in container["ports"]) == sorted(ports.values())
    wanted = topology.own_environment(process, ports)
    env = {e["name"]: e for e in container["env"]}
    assert set(env) == set(wanted)
    if process.stage:
        assert made["kind"] == "StatefulSet"
        slot = env.pop("RONDO_SLOT")["valueFrom"]["fieldRef"]["fieldPath"]
        assert slot == "metadata.labels['apps.kubernetes.io/pod-index']"
        del wanted["RONDO_SLOT"]
    assert {name: e["value"] for name, e in env.items()} == wanted
    assert container["envFrom"] == [{"configMapRef": {"name": "rondo"}}, {"secretRef": {"name": "rondo"}}]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    [service] = [
        d
        for d in [*manifests("base"), *manifests("overlays", "sandbox")]
        if d["kind"] == "Service" and d["metadata"]["name"] == process.name
    ]
    assert sorted(p["port"] for p in service["spec"]["ports"]) == sorted(ports.values())
    assert service["spec"]["selector"] == made["spec"]["selector"]["matchLabels"]


def test_the_configmap_is_the_shared_environment():
    [config] = [d for d in manifests("base") if d["kind"] == "ConfigMap"]
    assert config["data"] == CONTAINER | SHARED
    [patch] = [d for d in manifests("overlays", "production") if d["kind"] == "ConfigMap"]
    known = {f"RONDO_{name.upper()}" for name in Settings.model_fields}
    assert set(patch["data"]) <= known


def test_what_may_run_many_times_scales_and_nothing_else():
    scaled = {d["metadata"]["name"]: d for d in manifests("overlays", "production") if d["kind"].startswith("Horizon")}
    assert set(scaled) == {p.name for p in topology.SERVICES if p.scalable}
    for name, scaler in scaled.items():
        assert scaler["spec"]["scaleTargetRef"]["kind"] == workload(name)["kind"]


def test_the_sandbox_kafka_is_configured_alike():
    [broker] = [
        d for d in manifests("overlays", "sandbox") if d["kind"] == "StatefulSet" and d["metadata"]["name"] == "kafka"
    ]
    env = {e["name"]: e["value"] for e in broker["spec"]["template"]["spec"]["containers"][0]["env"]}
    for name, value in kafka.PROPERTIES.items():
        assert env[f"KAFKA_{name.upper().replace('.', '_')}"] == value
