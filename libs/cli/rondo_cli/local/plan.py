"""From options to a plan: which processes on which ports with which environment.

Ports are chosen once and kept in .rondo/ports.json, so that addresses survive a restart of the
stack as well as of a process.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rondo_cli.errors import Failure
from rondo_cli.local import kafka, ports, secrets, topology
from rondo_cli.local import redis as redis_server
from rondo_cli.local.topology import Addresses, Process
from rondo_cli.paths import CODE, python_path


@dataclass(frozen=True)
class Options:
    """What `rondo up` was asked for. `test_clock` in ms since 1970. `external`: use RONDO_KAFKA and
    RONDO_REDIS instead of starting servers. `any_ports`: free ports from anywhere rather than the
    well-known ones (tests). `only`: these processes, all when empty."""

    folder: Path
    scale: Mapping[str, int] = field(default_factory=dict)
    test_clock: int | None = None
    external: bool = False
    any_ports: bool = False
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Instance:
    """One process to run: the `slot`-th of its kind, with its ports and its whole environment."""

    process: Process
    slot: int
    ports: dict[str, int]
    env: dict[str, str]
    shared: int = 0
    """The port all instances of the process share; 0 when each has only its own."""

    @property
    def label(self) -> str:
        """Name in logs: the first instance has the process's own name."""
        return self.process.name if self.slot == 0 else f"{self.process.name}.{self.slot}"

    @property
    def http(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.ports['http']}"


@dataclass(frozen=True)
class Plan:
    """All that `rondo up` runs. `broker` and `redis` are None under --external."""

    options: Options
    workspace: str
    secrets: dict[str, str]
    addresses: Addresses
    broker: kafka.Broker | None
    redis: redis_server.Server | None
    instances: list[Instance]

    @property
    def partitions(self) -> int:
        """Partitions of member-keyed topics."""
        from rondo_common.partition import PARTITIONS

        return int(os.environ.get("RONDO_PARTITIONS") or PARTITIONS)

    @property
    def replication(self) -> int:
        """Replication factor of topics."""
        return int(os.environ.get("RONDO_REPLICATION") or 1)


def make(options: Options, user: Mapping[str, str] | None = None) -> Plan:
    """The plan for these options and the person's environment. Failure when they don't fit together."""
    user = dict(os.environ if user is None else user)
    _check(options, user)
    options.folder.mkdir(parents=True, exist_ok=True)
    own = {**secrets.load(options.folder), **{k: v for k, v in user.items() if k in topology.SECRETS and v}}
    given = _ports(options)
    wanted = [p for p in topology.PROCESSES if not options.only or p.name in options.only]
    chosen: dict[tuple[str, int], dict[str, int]] = {}
    shared: dict[str, int] = {}
    for process in wanted:
        count = options.scale.get(process.name, 1)
        if process.one_port and count > 1:
            # the well-known port is everybody's; each has another for its own health and metrics
            shared[process.name] = given.of(process, 0)["http"]
        for slot in range(count):
            chosen[process.name, slot] = given.of(process, slot, own=process.name in shared)
    for process in topology.PROCESSES:
        chosen.setdefault((process.name, 0), topology.port_names(process))
    broker = redis = None
    if not options.external:
        at = given.servers()
        broker = kafka.Broker(options.folder / "data" / "kafka", at["kafka"], at["kafka_controller"])
        redis = redis_server.Server(options.folder / "data" / "redis", at["redis"])
    given.save()
    addresses = _addresses(chosen, shared, user, broker, redis)
    common = topology.with_user(topology.shared_environment(addresses), user)
    instances = []
    for process in wanted:
        port = shared.get(process.name, 0)
        for slot in range(options.scale.get(process.name, 1)):
            at = chosen[process.name, slot]
            env = _environment(process, topology.own_environment(process, at, slot, port), common, own, options)
            instances.append(Instance(process, slot, at, env, port))
    workspace = user.get("RONDO_WORKSPACE") or "demo"
    return Plan(options, workspace, own, addresses, broker, redis, instances)


def _check(options: Options, user: Mapping[str, str]) -> None:
    if unknown := [name for name in options.only if name not in topology.BY_NAME]:
        raise Failure(f"--only: there is no process {unknown[0]!r}; there are {', '.join(topology.BY_NAME)}", 2)
    for name, count in options.scale.items():
        process = topology.BY_NAME.get(name)
        if process is None:
            raise Failure(f"--scale: there is no process {name!r}; there are {', '.join(topology.BY_NAME)}", 2)
        if count < 1:
            raise Failure(f"--scale: {name} must run at least once", 2)
        if count > 1 and not process.scalable:
            raise Failure(f"--scale: {name} runs once: {process.once}", 2)
    if options.external:
        for name in ("RONDO_KAFKA", "RONDO_REDIS"):
            if not user.get(name):
                raise Failure(f"--external needs {name}", 2)
    if options.test_clock is not None and (real := topology.real_providers(user)):
        raise Failure(f"a test clock and real providers don't go together: unset {', '.join(real)}", 2)


def _addresses(
    chosen: Mapping[tuple[str, int], dict[str, int]],
    shared: Mapping[str, int],
    user: Mapping[str, str],
    broker: kafka.Broker | None,
    redis: redis_server.Server | None,
) -> Addresses:
    first = {name: at for (name, slot), at in chosen.items() if slot == 0}
    grpc: dict[str, str] = {}
    for process in topology.PROCESSES:
        if process.grpc:
            all_of = [f"127.0.0.1:{at['grpc']}" for (name, _), at in chosen.items() if name == process.name]
            # several instances: gRPC's own list form, so that a caller goes on with the next when one is down
            grpc[process.name] = all_of[0] if len(all_of) == 1 else "ipv4:" + ",".join(all_of)
    capture = first["capture"]
    return Addresses(
        kafka=broker.bootstrap if broker else user["RONDO_KAFKA"],
        redis=redis.url if redis else user["RONDO_REDIS"],
        http={name: f"http://127.0.0.1:{shared.get(name) or at['http']}" for name, at in first.items()},
        grpc=grpc,
        capture={k.removeprefix("capture_"): f"127.0.0.1:{capture[k]}" for k in topology.CAPTURE.extra},
    )


def _environment(
    process: Process,
    mine: Mapping[str, str],
    common: Mapping[str, str],
    own: Mapping[str, str],
    options: Options,
) -> dict[str, str]:
    names = topology.CAPTURE_SECRETS if process is topology.CAPTURE else topology.SECRETS
    data = options.folder / "data" / process.name
    data.mkdir(parents=True, exist_ok=True)
    env = base_environment()
    env |= {k: own[k] for k in names if k in own}
    env |= common
    env |= mine
    env |= {"RONDO_STATE_FILE": str(options.folder / "state.json"), "RONDO_DATA_DIR": str(data)}
    if options.test_clock is not None:
        env["RONDO_CLOCK_FILE"] = str(options.folder / "clock")
    return env


def base_environment() -> dict[str, str]:
    """What every process has from ours: all but Rondo's own variables, and where the code is."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("RONDO_")}
    return env | {"PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"}


def command(process: Process) -> tuple[list[str], Path]:
    """What runs a process here, and its working folder."""
    return process.command(sys.executable), CODE


def forkable(process: Process) -> bool:
    """Whether what runs a process here is the service itself."""
    return command(process)[0] == process.command(sys.executable)


class _Ports:
    """The stack's ports by label, as stored, with free ones taken for what is new."""

    def __init__(self, folder: Path, anywhere: bool):
        self._file = folder / "ports.json"
        self._anywhere = anywhere
        self._given: dict[str, dict[str, int]] = json.loads(self._file.read_text()) if self._file.exists() else {}
        self._taken = {p for at in self._given.values() for p in at.values()}

    def of(self, process: Process, slot: int, own: bool = False) -> dict[str, int]:
        """Ports of one instance by name. `own`: also the first instance gets ports beside the well-known ones."""
        preferred = topology.port_names(process)
        spare = own or slot > 0
        return self._get(f"{process.name}.{slot}" if spare else process.name, preferred, spare)

    def servers(self) -> dict[str, int]:
        """Ports of Kafka and Redis."""
        wanted = {
            "kafka": topology.KAFKA_PORT,
            "kafka_controller": topology.KAFKA_CONTROLLER_PORT,
            "redis": topology.REDIS_PORT,
        }
        return self._get("servers", wanted, False)

    def _get(self, label: str, preferred: Mapping[str, int], spare: bool) -> dict[str, int]:
        at = self._given.setdefault(label, {})
        for kind, port in preferred.items():
            if kind not in at:
                near = 0 if self._anywhere else topology.FIRST_SPARE_PORT if spare else port
                at[kind] = ports.free_ports(1, near, self._taken | (_WELL_KNOWN - {port}))[0]
                self._taken.add(at[kind])
        return {kind: at[kind] for kind in preferred}

    def save(self) -> None:
        """Keep them for the next start."""
        self._file.write_text(json.dumps(self._given, indent=1) + "\n")


_WELL_KNOWN = {port for p in topology.PROCESSES for port in topology.port_names(p).values()}


def _ports(options: Options) -> _Ports:
    return _Ports(options.folder, options.any_ports)


def bootstrap_of(found: Mapping[str, object] | None) -> str:
    """Where Kafka is: the running stack's, else RONDO_KAFKA. Failure when neither is known."""
    from rondo_cli import state

    if found is not None and state.alive(dict(found)):
        return str(found["kafka"])
    if given := os.environ.get("RONDO_KAFKA"):
        return given
    raise Failure("no stack is running here and RONDO_KAFKA is not set. Start one with `rondo up`.")
