"""Stock Schemathesis against the session's stack: a short, seeded run. A long one is case 51 of make stress."""

import pytest

from tests.support.fuzzing import Target

pytestmark = pytest.mark.e2e
SEED = 20261121


@pytest.fixture(scope="module")
def target(stack):
    return Target(stack, "fuzzed")


def test_the_rest_api_does_what_its_document_says(target):
    report = target.gateway(seed=SEED, examples=5, phases="examples,fuzzing,stateful")
    assert report.good, report.text
    called, known = report.tested
    assert called == known > 80
    assert report.cases > 3 * known


def test_the_door_does_what_its_document_says(target):
    report = target.ingestion(seed=SEED, examples=10, phases="examples,fuzzing")
    assert report.good, report.text
    called, known = report.tested
    assert called == known > 15
    assert report.cases > 3 * known
