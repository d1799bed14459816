"""Tests that need a program nobody has: reported as not run, and failed when CI=true."""

import os
import subprocess
import sys

import pytest

TEST = """
import pytest

@pytest.mark.needs("no-such-program-anywhere")
def test_a():
    raise AssertionError("must not run")

@pytest.mark.needs("sh")
def test_b():
    pass
"""


@pytest.mark.parametrize(("ci", "code", "words"), [("", 0, "1 passed, 1 skipped"), ("true", 1, "1 passed, 1 error")])
def test_missing_programs(tmp_path, ci, code, words):
    (tmp_path / "test_x.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  needs(tool): x\n")
    env = {**os.environ, "CI": ci, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.needs", "-p", "no:cacheprovider", "test_x.py"]
    made = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == code, made.stdout
    assert words in made.stdout
    assert "test_x.py::test_a: not run: no-such-program-anywhere is not installed" in made.stdout
