"""The two OpenAPI documents: valid, complete, and with examples that keep their own schemas."""

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from rondo_common.settings import Settings
from services.gateway import main, openapi
from services.gateway.contract import OPERATIONS
from services.gateway.contract.examples import BODIES
from services.ingestion.openapi import document as ingestion_document

GATEWAY = openapi.document(main.make_app(Settings()))


@pytest.mark.parametrize("document", [GATEWAY, ingestion_document()], ids=["gateway", "ingestion"])
def test_a_document_is_valid_openapi_3_1(document):
    assert document["openapi"].startswith("3.1")
    assert not list(OpenAPIV31SpecValidator(document).iter_errors())


def test_every_address_is_described_and_nothing_else_is():
    served = {(method, path) for path, methods in GATEWAY["paths"].items() for method in methods}
    assert served == {(method, path.replace(":path", "")) for method, path in OPERATIONS}


def test_every_answer_with_a_body_says_what_is_in_it():
    for path, methods in GATEWAY["paths"].items():
        for method, shown in methods.items():
            for status, answer in shown["responses"].items():
                assert status == "204" or answer["content"], f"{method} {path} {status}"


@pytest.mark.parametrize(("method", "path"), BODIES, ids=lambda v: v.strip("/").replace("/", "."))
def test_an_example_fits_its_schema(method, path):
    (content,) = GATEWAY["paths"][path][method]["requestBody"]["content"].values()
    schema = {**content["schema"], "components": GATEWAY["components"]}
    Draft202012Validator(schema).validate(content["example"])


def test_what_a_body_may_not_hold_is_in_its_schema():
    """So that generated clients refuse it too."""
    (content,) = GATEWAY["paths"]["/v1/segments"]["post"]["requestBody"]["content"].values()
    check = Draft202012Validator({**content["schema"], "components": GATEWAY["components"]})
    good = {"rule": {"trait": {"field": "plan", "operator": "eq", "value": "gold"}}}
    assert check.is_valid(good)
    assert not check.is_valid({**good, "colour": "red"})
    assert not check.is_valid({"rule": {"trait": {"field": "plan", "operator": "is", "value": "gold"}}})
    assert not check.is_valid({"rule": {**good["rule"], "not": good["rule"]}})
