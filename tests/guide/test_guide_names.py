"""What the documentation names is there: files, links, commands, targets, functions, metrics, settings, topics,
addresses of the API. And nothing in the repository names a machine."""

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest
import typer.main
import yaml

from rondo_common.catalogue import TOPICS
from rondo_common.settings import Settings
from services.delivery.settings import DeliverySettings
from services.gateway.main import make_app
from services.ingestion.openapi import document as ingestion_document
from services.segmentation.parse import parse

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
PROSE = [p for p in DOCS if "decisions" not in p.parts]  # decisions stay as they were written, also when names change
SKIP = {".git", ".venv", ".rondo", ".cache", "__pycache__", ".hypothesis", ".ruff_cache", ".import_linter_cache"}
SKIP |= {".pytest_cache", ".mypy_cache", "node_modules", "data"}
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".yml",
    ".yaml",
    ".txt",
    ".in",
    ".json",
    ".lock",
    ".html",
    ".js",
    ".css",
    ".svg",
    ".proto",
}
TEXT |= {".example", ""}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code(text: str) -> str:
    """The code of a page: fenced blocks and code spans, a line each."""
    blocks = re.findall(r"^ *```.*?\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^ *```.*?\n.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", rest)])


def slug(heading: str) -> str:
    """A heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-")


@cache
def sources() -> tuple[tuple[Path, str], ...]:
    """Every text file of the repository."""
    wanted = (p for p in sorted(ROOT.rglob("*")) if p.suffix in TEXT and not SKIP & set(p.relative_to(ROOT).parts))
    return tuple((p, p.read_text(errors="replace")) for p in wanted if p.is_file())


@pytest.mark.parametrize("path", DOCS, ids=name)
def test_links_lead_somewhere(path):
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or ROOT not in (there, *there.parents):
            broken.append(target)
        elif anchor and there.suffix == ".md":
            headings = re.findall(r"^#+ +(.+?) *$", there.read_text(), re.MULTILINE)
            if anchor not in {slug(h) for h in headings}:
                broken.append(target)
    assert not broken


@pytest.mark.parametrize("path", PROSE, ids=name)
def test_make_targets_exist(path):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?<![\w-])make ([a-z]+)", code(path.read_text())))
    assert not named - targets


@cache
def command_line():
    from rondo_cli.main import app

    return typer.main.get_command(app)


@pytest.mark.parametrize("path", PROSE, ids=name)
def test_rondo_commands_and_their_options_exist(path):
    commands = command_line().commands
    wrong = []
    for words in re.findall(r"(?<![\w./-])(?<!-n )rondo +([a-z][^\n#;&]*)", code(path.read_text())):
        for first in words.split()[0].split("|"):
            if first not in commands:
                wrong.append(f"rondo {first}")
                continue
            command, rest = commands[first], words.split()[1:]
            if getattr(command, "commands", None) and rest:
                if rest[0] not in command.commands:
                    wrong.append(f"rondo {first} {rest[0]}")
                    continue
                command = command.commands[rest[0]]
            known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"--help"}
            wrong += [f"rondo {first} {o}" for o in re.findall(r"(?<!\S)--[a-z-]+", words) if o not in known]
    assert not wrong


def test_paths_of_documentation_named_anywhere_exist():
    wrong = set()
    for path, text in sources():
        for found in re.findall(r"(?<![\w./-])docs/[\w./-]*\w", text):
            if not (ROOT / found).exists() and "NNNN" not in found:
                wrong.add(f"{name(path)}: {found}")
    assert not wrong


@pytest.mark.parametrize("path", PROSE, ids=name)
def test_paths_of_code_named_in_it_exist(path):
    folders = "services|libs|protos|examples|deploy|tests|tools|requirements"
    text = code(path.read_text())
    named = set(re.findall(rf"(?<![\w./-])(?:{folders})/[\w./-]*\w", re.sub(r"\S*<\w+>\S*", "", text)))
    assert not {n for n in named if not (ROOT / n).exists() and "…" not in n}


@cache
def defined(path: Path) -> frozenset[str]:
    """Names of classes, functions and methods a module defines."""
    out = set()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, kinds):
            out.add(node.name)
            out |= {f"{node.name}.{inner.name}" for inner in getattr(node, "body", ()) if isinstance(inner, kinds)}
    return frozenset(out)


def test_functions_named_with_their_file_exist():
    wrong, seen = set(), 0
    for path in PROSE:
        for file, what in re.findall(r"`([\w./]+\.py):([\w.]+)`", path.read_text()):
            seen += 1
            if not (ROOT / file).exists() or what not in defined(ROOT / file):
                wrong.add(f"{name(path)}: {file}:{what}")
    assert seen > 40
    assert not wrong


def test_metrics_named_in_documentation_and_alerts_exist():
    known = set()
    for path, text in sources():
        if path.suffix == ".py" and path.parts[len(ROOT.parts)] in ("services", "libs"):
            known |= set(re.findall(r'"(rondo_[a-z0-9_]+)"', text))
    wrong = set()
    for path in (*PROSE, ROOT / "deploy" / "prometheus" / "alerts.yml"):
        for metric in re.findall(r"\b(rondo_[a-z0-9_]+)\b(?!/)", path.read_text()):
            base = re.sub(r"_(bucket|sum|count)$", "", metric)
            if metric not in ("rondo_common", "rondo_cli", "rondo_protos") and base not in known:
                wrong.add(f"{name(path)}: {metric}")
    assert not wrong


def test_settings_named_in_documentation_exist():
    known = {f"RONDO_{f.upper()}" for f in Settings.model_fields}
    known |= {f"RONDO_DELIVERY_{f.upper()}" for f in DeliverySettings.model_fields}
    known |= {str(f.validation_alias) for f in DeliverySettings.model_fields.values() if f.validation_alias}
    known |= {"RONDO_DIR", "RONDO_BATCH_MARKS"}
    wrong = {v for path in PROSE for v in re.findall(r"\bRONDO_[A-Z_]*[A-Z]\b", path.read_text())} - known
    assert not wrong


def test_topics_named_in_documentation_exist():
    wrong = {
        f"{name(path)}: {topic}"
        for path in PROSE
        for topic in re.findall(r"\brondo\.[a-z.-]+\.v1\b", path.read_text())
        if topic not in TOPICS
    }
    assert not wrong


@cache
def addresses() -> tuple[re.Pattern[str], ...]:
    served = [*make_app(Settings()).openapi()["paths"], *ingestion_document()["paths"]]
    return tuple(re.compile(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path))) for path in served)


@pytest.mark.parametrize("path", PROSE, ids=name)
def test_addresses_of_the_api_exist(path):
    text = code(path.read_text())
    asked = re.findall(r"\$API(/v1/[^\s\"'?]+)", text)
    asked += re.findall(r"(?:GET|PUT|POST|DELETE) (/v1/[^\s\"'?`]+)", text)
    wrong = {a for a in asked if not any(p.fullmatch(a.rstrip("/")) for p in addresses())}
    assert not wrong


def test_rules_of_the_cookbook_are_accepted():
    page = (ROOT / "docs" / "recipes" / "segments.md").read_text()
    rules = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert len(rules) >= 10
    for rule in rules:
        _, mistakes = parse(json.loads(rule))
        assert not mistakes, rule


def test_every_alert_has_a_page_and_stands_in_the_list():
    groups = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
    listed = (ROOT / "docs" / "runbooks" / "README.md").read_text()
    for rule in (rule for group in groups for rule in group["rules"]):
        page = ROOT / rule["annotations"]["runbook"]
        assert page.exists(), rule["alert"]
        assert rule["alert"] in page.read_text().splitlines()[0]
        assert f"| {rule['alert']} | [{page.stem}]({page.name}) |" in listed


def test_every_page_is_reached_from_the_readme():
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        waiting += [(page.parent / target).resolve() for target in re.findall(r"\]\(([^)\s#]+)", page.read_text())]
    assert not {name(p) for p in PROSE if p not in seen}


def test_nothing_names_a_machine_or_a_registry():
    places = r"(?<![\w.$}>~])/(?:work|root|home/\w+|Users/\w+)/\w"
    hosts = r"(?:pypi|pythonhosted|npmjs|crates)\.(?:org|io|com)|(?:repo\d*|search)\.maven\.|--(?:extra-)?index-url"
    pattern = re.compile(f"{places}|{hosts}")
    here = {Path(__file__).resolve(), ROOT / "tests" / "architecture" / "test_import_law.py"}
    wrong = {
        f"{name(path)}: {found[0]}" for path, text in sources() if path not in here for found in pattern.finditer(text)
    }
    assert not wrong
