"""What the end-to-end tests of the main path share: the session's stack as an Api, and a template."""

from collections.abc import Iterator

import pytest

from tests.support.spine_api import Api
from tests.support.spine_people import CONTENT
from tests.support.stack import Stack


@pytest.fixture(scope="session")
def api(stack: Stack) -> Iterator[Api]:
    """The session's stack, with the template `spine`."""
    made = Api(stack)
    made.put("/v1/templates/spine", CONTENT)
    yield made
    made.close()
