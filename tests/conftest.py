"""Fixtures and hooks of all tests; see tests/support for what each does."""

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
