"""The one description of Rondo's processes: names, ports, what each is told.

`rondo up` starts what stands here; docker-compose.yml and deploy/kubernetes say the same in their
own languages, and tests hold both against this module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

KAFKA_PORT, KAFKA_CONTROLLER_PORT, REDIS_PORT = 29092, 29093, 26379
FIRST_SPARE_PORT = 7400
"""Further instances of scaled processes take ports from here on."""


@dataclass(frozen=True)
class Process:
    """One kind of process. `http` and `grpc` are its preferred ports (and the fixed ones in a
    container); every process has HTTP, if only for health and metrics. `extra` are further ports by
    the setting that names them. `stage`: it keeps state in partitions and needs a slot of its own,
    so it runs as a StatefulSet. `public`: people or providers outside reach its HTTP. `one_port`: its
    instances on one machine answer on one port. `once`: why there is one of it only; empty when there may
    be any number."""

    name: str
    about: str
    http: int
    grpc: int | None = None
    extra: Mapping[str, int] = field(default_factory=dict)
    stage: bool = False
    public: bool = False
    once: str = ""
    one_port: bool = False

    @property
    def scalable(self) -> bool:
        """Whether there may be several."""
        return not self.once

    def command(self, python: str = "python") -> list[str]:
        """What runs it, with the code's root as working folder."""
        return [python, "-m", "services", self.name]


CAPTURE = Process(
    "capture",
    "sandbox: takes what delivery sends, as a mailbox and as the providers would",
    7300,
    extra={"capture_smtp": 2525, "capture_sendgrid": 7301, "capture_twilio": 7302, "capture_telegram": 7303},
    once="it holds the mailbox",
)

SERVICES: tuple[Process, ...] = (
    Process("ingestion", "the public door: events, callbacks, inbound messages", 7000, public=True, one_port=True),
    Process("profiles", "identity, traits, consent", 7002, 7102, stage=True),
    Process("segmentation", "the rule language and live memberships", 7003, 7103, stage=True),
    Process("campaigns", "definitions, runs, triggers", 7004, 7104, stage=True),
    Process("rhythm", "the gate: one decision for every touch", 7005, 7105, stage=True),
    Process("delivery-email", "sends e-mail", 7006, 7106, stage=True),
    Process("delivery-sms", "sends SMS", 7012, 7112, stage=True),
    Process("delivery-messaging", "sends messages (Telegram)", 7013, 7113, stage=True),
    Process("links", "tracked links, unsubscribe, preferences", 7010, public=True, one_port=True),
    Process("gateway", "the REST API", 7001, public=True),
    Process("dashboard", "web pages", 7009, public=True, once="it is a view of everything else"),
    Process("insights", "the warehouse", 7007, 7107, once="the warehouse has one writer"),
    Process("community", "conversations", 7008, 7108, stage=True),
    Process("egress", "CRM events and webhooks", 7011, stage=True),
)

PROCESSES = (CAPTURE, *SERVICES)
BY_NAME = {p.name: p for p in PROCESSES}

USER_WINS = frozenset(
    {
        "RONDO_SMTP_URL",
        "RONDO_EMAIL_PROVIDER",
        "RONDO_SENDGRID_BASE_URL",
        "RONDO_SENDGRID_KEY",
        "RONDO_SENDGRID_PUBLIC_KEY",
        "RONDO_TWILIO_BASE_URL",
        "RONDO_TWILIO_ACCOUNT",
        "RONDO_TWILIO_TOKEN",
        "RONDO_TWILIO_FROM",
        "RONDO_TELEGRAM_BASE_URL",
        "RONDO_TELEGRAM_TOKEN",
        "RONDO_TELEGRAM_SECRET",
        "RONDO_PUBLIC_URL",
        "RONDO_URL_WAREHOUSE",
        "RONDO_WORKSPACE",
        "RONDO_OTLP_ENDPOINT",
        "RONDO_TRACE_RATIO",
        "RONDO_SECRET",
        "RONDO_PARTITIONS",
        "RONDO_REPLICATION",
        "RONDO_LOG_LEVEL",
    }
)
"""Variables that, when the person who starts the stack has set them, replace what it would say."""

USER_ONLY = ("RONDO_DELIVERY_", "RONDO_RECONCILE_", "RONDO_BATCH_MARKS")
"""Beginnings of further variables that are passed on: settings of single services, and where workers
show their open batch (for tests that kill them there)."""

SECRETS = (
    "RONDO_SECRET",
    "RONDO_WRITE_KEY",
    "RONDO_ADMIN_KEY",
    "RONDO_SENDGRID_PUBLIC_KEY",
    "RONDO_TWILIO_TOKEN",
    "RONDO_TELEGRAM_TOKEN",
    "RONDO_TELEGRAM_SECRET",
)
"""Variables every process gets from the stack's secrets; capture alone also signs with the next one."""
CAPTURE_SECRETS = (*SECRETS, "RONDO_SENDGRID_PRIVATE_KEY")


@dataclass(frozen=True)
class Addresses:
    """Where everything is, as processes see it: URLs and host:port by process name, and capture's
    four doors by kind."""

    kafka: str
    redis: str
    http: Mapping[str, str]
    grpc: Mapping[str, str]
    capture: Mapping[str, str]


def fixed_addresses(kafka: str = "kafka:9092", redis: str = "redis:6379") -> Addresses:
    """Addresses where each process has a host of its own name and its fixed ports (containers)."""
    return Addresses(
        kafka=kafka,
        redis=f"redis://{redis}/0",
        http={p.name: f"http://{p.name}:{p.http}" for p in PROCESSES},
        grpc={p.name: f"{p.name}:{p.grpc}" for p in PROCESSES if p.grpc},
        capture={kind.removeprefix("capture_"): f"capture:{port}" for kind, port in CAPTURE.extra.items()},
    )


def shared_environment(at: Addresses) -> dict[str, str]:
    """What every process is told: where the others are, and the providers' base URLs, which point at
    capture."""
    env = {
        "RONDO_KAFKA": at.kafka,
        "RONDO_REDIS": at.redis,
        "RONDO_PUBLIC_URL": at.http["ingestion"],
        "RONDO_SMTP_URL": f"smtp://{at.capture['smtp']}",
        "RONDO_EMAIL_PROVIDER": "smtp",
        "RONDO_SENDGRID_BASE_URL": f"http://{at.capture['sendgrid']}",
        "RONDO_TWILIO_BASE_URL": f"http://{at.capture['twilio']}",
        "RONDO_TELEGRAM_BASE_URL": f"http://{at.capture['telegram']}",
        "RONDO_URL_WAREHOUSE": at.http["insights"],
        "RONDO_SERVICES": ",".join(f"{p.name}={at.http[p.name]}" for p in SERVICES),
    }
    for name in ("ingestion", "gateway", "links", "dashboard", "capture"):
        env[f"RONDO_URL_{name.upper()}"] = at.http[name]
    for p in SERVICES:
        if p.grpc and not p.name.startswith("delivery-"):
            env[f"RONDO_GRPC_{p.name.upper()}"] = at.grpc[p.name]
    env["RONDO_GRPC_DELIVERY"] = at.grpc["delivery-email"]
    env["RONDO_GRPC_DELIVERY_SMS"] = at.grpc["delivery-sms"]
    env["RONDO_GRPC_DELIVERY_MESSAGING"] = at.grpc["delivery-messaging"]
    return env


def own_environment(process: Process, ports: Mapping[str, int], slot: int | str = 0, shared: int = 0) -> dict[str, str]:
    """What one instance alone is told: its name, slot and ports (by `port_names`), and the port it shares
    with the others of its kind, if any."""
    env = {"RONDO_SERVICE": process.name, "RONDO_SLOT": str(slot), "RONDO_HTTP_PORT": str(ports["http"])}
    if shared:
        env["RONDO_SHARED_PORT"] = str(shared)
    if process.grpc:
        env["RONDO_GRPC_PORT"] = str(ports["grpc"])
    for kind in process.extra:
        env[f"RONDO_{kind.upper()}_PORT"] = str(ports[kind])
    return env


def port_names(process: Process) -> dict[str, int]:
    """The ports an instance needs, each with the preferred number of the first instance."""
    return {"http": process.http, **({"grpc": process.grpc} if process.grpc else {}), **process.extra}


def with_user(env: Mapping[str, str], user: Mapping[str, str]) -> dict[str, str]:
    """`env` with the user's variables over it. Where the user gives a provider's key but no base URL,
    the real provider is meant: the base URL that points at capture is left out."""
    out = {**env, **{k: v for k, v in user.items() if k in USER_WINS or k.startswith(USER_ONLY)}}
    for key, base in (
        ("RONDO_SENDGRID_KEY", "RONDO_SENDGRID_BASE_URL"),
        ("RONDO_TWILIO_TOKEN", "RONDO_TWILIO_BASE_URL"),
        ("RONDO_TELEGRAM_TOKEN", "RONDO_TELEGRAM_BASE_URL"),
    ):
        if user.get(key) and not user.get(base):
            out.pop(base, None)
    return out


def real_providers(user: Mapping[str, str]) -> list[str]:
    """Provider keys the user has set, under which real people could be reached."""
    return [k for k in ("RONDO_SENDGRID_KEY", "RONDO_TWILIO_TOKEN", "RONDO_TELEGRAM_TOKEN") if user.get(k)]
