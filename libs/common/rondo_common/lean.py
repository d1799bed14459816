"""Imports without what a library would import beside it only because it is installed.

A service's start is mostly imports, and `rondo up` starts fifteen of them on two cores: redis takes in
OpenTelemetry's metrics, structlog takes in rich, neither used here, together a fifth of it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*modules: str) -> Iterator[None]:
    """Inside the block, importing one of `modules` raises ImportError, unless it was imported before."""
    # None in sys.modules is Python's own mark of a module that may not be imported
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
