"""Tests that need a program: run when it is there, reported as `not run` when not, failed when CI=true.

@pytest.mark.needs("node")
@pytest.mark.browser                # needs chromium
"""

import os
import shutil

import pytest

ALSO = {"chromium": ("chromium", "chromium-browser", "google-chrome")}

_not_run: list[tuple[str, str]] = []


def find(tool: str) -> str | None:
    """Path of a program, under any of its names."""
    return next((path for name in ALSO.get(tool, (tool,)) if (path := shutil.which(name))), None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or under CI fail, what can't be had."""
    wanted = [str(tool) for mark in item.iter_markers("needs") for tool in mark.args]
    if item.get_closest_marker("browser"):
        wanted.append("chromium")
    missing = [tool for tool in wanted if find(tool) is None]
    if missing:
        not_run(item.nodeid, f"{', '.join(missing)} is not installed")


def not_run(name: str, why: str) -> None:
    """End the running test, reported as not run; under CI as failed. `name` is its node id."""
    why = f"not run: {why}"
    _not_run.append((name, why))
    if os.environ.get("CI") == "true":
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not run."""
    if _not_run:
        terminalreporter.section("not run")
        for name, why in _not_run:
            terminalreporter.write_line(f"{name}: {why}")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser (for playwright's executable_path)."""
    path = find("chromium")
    assert path
    return path
