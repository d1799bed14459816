"""From options and the person's environment to processes, ports and variables."""

import json
import socket

import pytest

from rondo_cli.errors import Failure
from rondo_cli.local import plan, ports, topology


def make(folder, user=None, **options):
    return plan.make(plan.Options(folder / ".rondo", any_ports=True, **options), user or {})


def by_label(made):
    return {i.label: i for i in made.instances}


def test_ports_are_kept_and_distinct(tmp_path):
    first = make(tmp_path)
    again = make(tmp_path, scale={"profiles": 3})
    assert {i.label: i.ports for i in first.instances}.items() <= {i.label: i.ports for i in again.instances}.items()
    assert again.broker.port == first.broker.port
    taken = [p for i in again.instances for p in i.ports.values()]
    taken += [again.broker.port, again.broker.controller_port, again.redis.port]
    assert len(taken) == len(set(taken))
    assert [i.slot for i in again.instances if i.process.name == "profiles"] == [0, 1, 2]


def test_a_port_that_is_taken_at_the_first_start_is_gone_around(tmp_path):
    with socket.socket() as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        port = foreign.getsockname()[1]
        assert not ports.is_free(port)
        assert port not in ports.free_ports(3, preferred=port)
        held = ports.holder(port)
        assert held is not None
        assert "pytest" in held.command or "python" in held.command
        with pytest.raises(ports.PortTaken, match=f"port {port} is held by pid"):
            ports.check_free(port, "links")
    assert ports.holder(port) is None


def test_preferred_ports_when_free(tmp_path, monkeypatch):
    monkeypatch.setattr(ports, "is_free", lambda port, host="": True)
    made = plan.make(plan.Options(tmp_path / ".rondo", scale={"rhythm": 2}), {})
    assert by_label(made)["profiles"].ports == {"http": 7002, "grpc": 7102}
    assert by_label(made)["capture"].ports["capture_smtp"] == 2525
    assert made.broker.bootstrap == "127.0.0.1:29092"
    assert by_label(made)["rhythm.1"].ports["http"] >= topology.FIRST_SPARE_PORT


def test_the_person_s_variables_win_over_capture(tmp_path):
    user = {
        "RONDO_SMTP_URL": "smtp://sink:25",
        "RONDO_PUBLIC_URL": "https://x.example",
        "RONDO_EMAIL_PROVIDER": "sendgrid",
        "RONDO_SENDGRID_BASE_URL": "http://sink:1",
        "RONDO_HTTP_PORT": "1",
        "RONDO_KAFKA": "elsewhere:1",
    }
    made = make(tmp_path, user)
    env = by_label(made)["delivery-email"].env
    for name in ("RONDO_SMTP_URL", "RONDO_PUBLIC_URL", "RONDO_EMAIL_PROVIDER", "RONDO_SENDGRID_BASE_URL"):
        assert env[name] == user[name]
    assert env["RONDO_TWILIO_BASE_URL"].startswith("http://127.0.0.1:")
    assert env["RONDO_HTTP_PORT"] != "1"
    assert env["RONDO_KAFKA"] == made.broker.bootstrap


def test_a_provider_s_key_without_a_base_url_means_the_real_provider(tmp_path):
    env = by_label(make(tmp_path, {"RONDO_TWILIO_TOKEN": "t"}))["delivery-sms"].env
    assert "RONDO_TWILIO_BASE_URL" not in env
    assert env["RONDO_TWILIO_TOKEN"] == "t"
    assert "RONDO_SENDGRID_BASE_URL" in env


def test_secrets_are_made_once_and_for_their_owner_only(tmp_path):
    first, again = make(tmp_path), make(tmp_path)
    assert first.secrets == again.secrets
    assert (tmp_path / ".rondo" / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert make(tmp_path / "other").secrets["RONDO_ADMIN_KEY"] != first.secrets["RONDO_ADMIN_KEY"]


def test_sandbox_signatures_fit_their_public_key(tmp_path):
    import base64

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    secrets = make(tmp_path).secrets
    private = serialization.load_der_private_key(base64.b64decode(secrets["RONDO_SENDGRID_PRIVATE_KEY"]), None)
    public = serialization.load_der_public_key(base64.b64decode(secrets["RONDO_SENDGRID_PUBLIC_KEY"]))
    public.verify(private.sign(b"x", ec.ECDSA(hashes.SHA256())), b"x", ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(
    ("options", "user", "words"),
    [
        ({"scale": {"profile": 2}}, {}, "no process 'profile'"),
        ({"scale": {"insights": 2}}, {}, "insights runs once"),
        ({"scale": {"profiles": 0}}, {}, "at least once"),
        ({"only": ("x",)}, {}, "no process 'x'"),
        ({"external": True}, {"RONDO_KAFKA": "k:1"}, "needs RONDO_REDIS"),
        ({"test_clock": 1}, {"RONDO_SENDGRID_KEY": "SG.x"}, "unset RONDO_SENDGRID_KEY"),
    ],
)
def test_options_that_don_t_fit_are_refused(tmp_path, options, user, words):
    with pytest.raises(Failure, match=words) as e:
        make(tmp_path, user, **options)
    assert e.value.code == 2


def test_external_servers_are_used_as_given(tmp_path):
    made = make(tmp_path, {"RONDO_KAFKA": "k:9", "RONDO_REDIS": "redis://r:1/0"}, external=True)
    assert (made.broker, made.redis) == (None, None)
    env = by_label(made)["profiles"].env
    assert (env["RONDO_KAFKA"], env["RONDO_REDIS"]) == ("k:9", "redis://r:1/0")


def test_a_test_clock_is_told_to_everybody(tmp_path):
    for instance in make(tmp_path, test_clock=1_000).instances:
        assert instance.env["RONDO_CLOCK_FILE"] == str(tmp_path / ".rondo" / "clock")
    assert "RONDO_CLOCK_FILE" not in make(tmp_path / "b").instances[0].env


def test_settings_read_what_the_plan_writes(tmp_path, monkeypatch):
    from rondo_common.settings import Settings

    made = make(tmp_path, scale={"profiles": 2})
    for instance in made.instances:
        with monkeypatch.context() as m:
            for name, value in instance.env.items():
                if name.startswith("RONDO_"):
                    m.setenv(name, value)
            settings = Settings()
        assert settings.service == instance.process.name
        assert settings.http_port == instance.ports["http"]
        assert settings.kafka == made.broker.bootstrap
        assert settings.secret == made.secrets["RONDO_SECRET"]
        if instance.process is topology.CAPTURE:
            assert settings.capture_smtp_port == instance.ports["capture_smtp"]
            assert settings.sendgrid_private_key
    assert json.loads((tmp_path / ".rondo" / "ports.json").read_text())["profiles.1"]


def test_instances_of_the_door_share_its_port_and_have_each_their_own(tmp_path):
    one = make(tmp_path)
    two = make(tmp_path, scale={"ingestion": 2})
    door = one.addresses.http["ingestion"]
    assert two.addresses.http["ingestion"] == door
    assert by_label(one)["ingestion"].http == door and not by_label(one)["ingestion"].shared
    instances = [by_label(two)[label] for label in ("ingestion", "ingestion.1")]
    own = {i.ports["http"] for i in instances}
    assert len(own) == 2 and not any(door.endswith(f":{p}") for p in own)
    for instance in instances:
        assert door.endswith(f":{instance.shared}")
        assert instance.env["RONDO_SHARED_PORT"] == str(instance.shared)
        assert instance.env["RONDO_PUBLIC_URL"] == door
    assert "RONDO_SHARED_PORT" not in by_label(two)["profiles"].env
    again = make(tmp_path, scale={"ingestion": 2})
    assert {i.ports["http"] for i in again.instances if i.process.name == "ingestion"} == own
