"""Who may import whom, beyond what import-linter's contracts in pyproject.toml say.

Layers of a service: main > edges (streams, api, grpc_server, callbacks) > handlers > store, clients,
channels > pure modules > model. A module is pure when it imports nothing that talks or waits.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / "services"
NAMES = sorted(p.name for p in SERVICES.iterdir() if (p / "__init__.py").exists())
MAX_LINES = 400
TABLES = {"libs/common/rondo_common/catalogue.py"}
"""One table in one place, however long it grows."""

MAIN, EDGE, HANDLER, OUTSIDE, PURE, MODEL = range(6)
LAYERS = {
    "main": MAIN,
    **dict.fromkeys(("streams", "agents", "api", "grpc_server", "callbacks"), EDGE),
    "handlers": HANDLER,
    **dict.fromkeys(("store", "clients", "channels"), OUTSIDE),
    "model": MODEL,
}
TALKS = {"asyncio", "concurrent", "subprocess", "threading"}  # waits
TALKS |= {"fastapi", "grpc", "http", "httpx", "requests", "socket", "starlette", "uvicorn"}
TALKS |= {"aiosmtpd", "aiosmtplib", "sendgrid", "smtplib", "twilio"}
TALKS |= {"aiokafka", "chdb", "clickhouse_connect", "confluent_kafka", "faust", "redis", "sqlite3"}
CLOCKS = {("time", "time"), ("time", "time_ns"), ("time", "monotonic"), ("time", "sleep")}
CLOCKS |= {("datetime", "now"), ("datetime", "utcnow"), ("date", "today"), ("random", "random"), ("uuid", "uuid4")}
SHARED_IO = {"kafka", "redis_client", "lifecycle", "http_server", "rpc", "web", "definitions", "commands"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> frozenset[str]:
    """Full names of what a file imports when it is loaded or run, but for types alone."""
    found = set()
    skipped = {
        id(n)
        for block in ast.walk(tree(path))
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for n in ast.walk(block)
    }
    for node in ast.walk(tree(path)):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


@cache
def talks(path: Path) -> set[str]:
    """What in a file's imports talks, waits or tells the time."""
    out = {name for name in imports(path) if name.split(".")[0] in TALKS}
    out |= {n for n in imports(path) if n.startswith("rondo_common.") and n.split(".")[1] in SHARED_IO}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            out |= {f"{name}.{what}" for name, what in CLOCKS if (node.value.id, node.attr) == (name, what)}
    return out


@cache
def files(service: str) -> list[Path]:
    return sorted(p for p in (SERVICES / service).rglob("*.py"))


def part(path: Path) -> str:
    """The module of a service that a file belongs to: its name, or that of its folder."""
    return path.relative_to(SERVICES).with_suffix("").parts[1]


def parts_of(service: str, name: str) -> set[str]:
    """The modules of the service that one of its modules imports."""
    found = {
        i.split(".")[2]
        for p in files(service)
        if part(p) == name
        for i in imports(p)
        if i.count(".") >= 2 and i.startswith(f"services.{service}.")
    }
    return found - {name}


@cache
def pure(service: str, name: str, above: frozenset[str] = frozenset()) -> bool:
    """Neither it nor what it stands on talks."""
    if any(talks(p) for p in files(service) if part(p) == name):
        return False
    below = parts_of(service, name) - above
    return all(LAYERS.get(b, PURE) >= PURE and pure(service, b, above | {name}) for b in below)


def layer(service: str, name: str) -> int:
    """A module whose name says nothing is an edge when it talks, else pure."""
    if name in LAYERS:
        return LAYERS[name]
    return PURE if pure(service, name) else EDGE


@pytest.mark.parametrize("service", NAMES)
def test_layers_only_look_down(service):
    wrong = set()
    for path in files(service):
        mine = part(path)
        if mine == "__init__":
            continue
        for name in imports(path):
            words = name.split(".")
            if words[:2] == ["services", service] and len(words) > 2 and words[2] != mine:
                below = layer(service, words[2])
                if below < layer(service, mine) or below == MAIN:
                    wrong.add(f"{path.relative_to(ROOT)} imports {words[2]}")
    assert not wrong


@pytest.mark.parametrize("service", NAMES)
def test_handlers_are_pure(service):
    """What decides neither talks, nor waits, nor asks for the time."""
    wrong = [
        f"{path.relative_to(ROOT)}: {sorted(found)}"
        for path in files(service)
        if part(path) in ("handlers", "model") and (found := talks(path))
    ]
    assert not wrong


@pytest.mark.parametrize("service", NAMES)
def test_every_service_says_what_it_is(service):
    text = (ast.get_docstring(tree(SERVICES / service / "__init__.py")) or "").lower()
    for word in ("owns", "consumes", "emits", "serves"):
        assert word in text, f"services/{service}/__init__.py does not say what it {word}"
    main = tree(SERVICES / service / "main.py")
    assert "main" in {n.name for n in main.body if isinstance(n, ast.FunctionDef)}


@pytest.mark.parametrize("library", ["twilio", "sendgrid", "chdb"])
def test_a_provider_s_library_stands_in_one_module(library):
    users = {
        str(path.relative_to(ROOT))
        for service in NAMES
        for path in files(service)
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert len(users) <= 1


def sources() -> list[Path]:
    folders = ("services", "libs", "tools", "examples", "tests")
    return [p for f in folders for p in sorted((ROOT / f).rglob("*.py")) if not re.search(r"_pb2(_grpc)?\.py$", p.name)]


def test_files_stay_small_enough_to_read():
    long = {str(p.relative_to(ROOT)): n for p in sources() if (n := len(p.read_text().splitlines())) > MAX_LINES}
    assert not long.keys() - TABLES


def test_test_files_have_names_of_their_own():
    names = [p.name for p in (ROOT / "tests").rglob("test_*.py")]
    assert not sorted({n for n in names if names.count(n) > 1})


def test_every_test_file_can_fail():
    checks = re.compile(r"\bassert\b|pytest\.raises|expect\(|\.check\(|check\(|verify")
    mute = [p.name for p in (ROOT / "tests").rglob("test_*.py") if not checks.search(p.read_text())]
    assert not mute


def test_nothing_names_a_package_registry_or_a_machine():
    """Where packages come from is a matter of each machine's own configuration."""
    hosts = re.compile(
        r"(pypi|pythonhosted|npmjs|repo\d*\.maven|maven\.apache|crates)\.(org|io|com)|--index-url|/root/"
    )
    kinds = {".py", ".txt", ".in", ".toml", ".yml", ".yaml", ".md", ".json", ".lock", ""}
    skip = {".git", ".venv", "__pycache__", ".rondo", "data", ".hypothesis", ".ruff_cache", ".import_linter_cache"}
    wrong = []
    for path in ROOT.rglob("*"):
        if path.suffix not in kinds or skip & set(path.relative_to(ROOT).parts) or not path.is_file():
            continue
        if path == Path(__file__) or path.stat().st_size > 2_000_000:
            continue
        # the POM's own namespace is a name that Maven asks for, not a place to fetch from
        text = path.read_text(errors="replace").replace("http://maven.apache.org/POM/4.0.0", "")
        if found := hosts.search(text):
            wrong.append(f"{path.relative_to(ROOT)}: {found[0]}")
    assert not wrong
