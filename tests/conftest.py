"""Fixtures and hooks of all tests; see tests/support for what each does."""

import pytest

from tests.support.needs import chromium, pytest_runtest_setup, pytest_terminal_summary
from tests.support.servers import free_port, kafka, kafka_server, redis_flushed, redis_url, topics
from tests.support.stack import fresh_stack, stack

__all__ = [
    "chromium",
    "free_port",
    "fresh_stack",
    "kafka",
    "kafka_server",
    "pytest_runtest_setup",
    "pytest_terminal_summary",
    "redis_flushed",
    "redis_url",
    "stack",
    "topics",
]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run side by side (`-n 2 --dist loadgroup`): a file stays with one worker, and all files that use the
    session's whole stack with the same one, so that it starts once. Long ones begin first."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        group = "stack" if "stack" in fixtures or "api" in fixtures else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: not item.nodeid.startswith(("tests/chaos", "tests/e2e")))
