"""buf breaking against the image of the first version: passes today, fails for what would break a reader.

The image is made by `buf build protos -o protos/baseline.binpb`. It is made anew only to add what was
added since, when `buf breaking` passes.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROTOS = ROOT / "protos"
BASELINE = PROTOS / "baseline.binpb"
BUF = ROOT / ".venv" / "bin" / "buf"
PROFILES = "rondo_protos/profiles/v1/profiles.proto"


def breaking(folder):
    command = [str(BUF), "breaking", str(folder), "--against", str(BASELINE), "--error-format", "json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def copy(tmp_path):
    """A copy of the protos that may be spoilt: copy(old, new) replaces a text in profiles.proto."""
    target = tmp_path / "protos"
    shutil.copytree(PROTOS, target, ignore=shutil.ignore_patterns("*.py", "*.pyi", "*.binpb", "__pycache__"))

    def change(old, new):
        path = target / PROFILES
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        return target

    return change


def test_nothing_was_broken_since_the_first_version():
    done = breaking(PROTOS)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("string id_type = 3;", "", "FIELD_NO_DELETE"),
        ("string id_type = 3;", "int64 id_type = 3;", "FIELD_SAME_TYPE"),
        ("string id_type = 3;", "string kind = 3;", "FIELD_SAME_NAME"),
        ("string id_type = 3;", "string id_type = 30;", "FIELD_NO_DELETE"),
        ("rpc Get(", "rpc Fetch(", "RPC_NO_DELETE"),
    ],
)
def test_a_breaking_change_is_refused(copy, old, new, rule):
    done = breaking(copy(old, new))
    assert done.returncode != 0, f"{old} -> {new} passed"
    assert rule in done.stdout
    assert PROFILES in done.stdout


def test_an_addition_is_allowed(copy):
    done = breaking(copy("string id_type = 3;", "string id_type = 3;\n  string hint = 90;"))
    assert done.returncode == 0, done.stdout
