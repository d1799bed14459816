"""The set-up of the repository: make targets, pins, the continuous integration script."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def make(*arguments: str) -> str:
    made = subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return made.stdout


def test_make_shows_its_targets():
    shown = make("help")
    for target in ("install", "protos", "lint", "test", "demo", "up", "down", "stress", "bench", "clean"):
        assert re.search(rf"^  {target} +\w", shown, re.MULTILINE), target


def test_continuous_integration_runs_make_test_and_tolerates_nothing_missing():
    script = (ROOT / ".ci" / "run").read_text()
    assert "export CI=true" in script
    assert re.search(r"^make test$", script, re.MULTILINE)


def test_every_pin_has_a_hash():
    for name in ("base", "local", "dev"):
        lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
        pins = [i for i, line in enumerate(lines) if re.match(r"[A-Za-z0-9]", line)]
        assert pins
        for i in pins:
            assert re.match(r"[A-Za-z0-9_.\[\]-]+==\S+", lines[i]), lines[i]
            assert "--hash=sha256:" in lines[i + 1], lines[i]


def test_the_three_lists_agree_on_versions():
    seen: dict[str, str] = {}
    for name in ("base", "local", "dev"):
        for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
            if found := re.match(r"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==(\S+)", line):
                package, version = found[1].lower(), found[2]
                assert seen.setdefault(package, version) == version, package


def test_the_checkout_is_linked_into_an_environment(tmp_path):
    from tools import link_venv

    (tmp_path / "bin").mkdir()
    link_venv.link(tmp_path, tmp_path / "bin")
    folders = [Path(line) for line in (tmp_path / "rondo.pth").read_text().splitlines()]
    assert all(folder.is_dir() for folder in folders)
    assert ROOT / "libs" / "common" in folders
    assert (tmp_path / "bin" / "rondo").stat().st_mode & 0o111
