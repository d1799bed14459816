"""HTTP behaviour common to all services."""

import msgspec
import pytest
from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel, ConfigDict
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient

from rondo_common import web
from rondo_common.problems import Problem, pointer_of


class Leaf(msgspec.Struct, forbid_unknown_fields=True):
    operator: str


class Thing(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    leaves: list[Leaf] = []


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int


@pytest.fixture
def client():
    app = FastAPI()

    @app.post("/things")
    async def make(request: Request):
        return web.json_response(await web.read(request, Thing), 201)

    @app.post("/models")
    async def model(body: Model):
        return {"size": body.size}

    @app.put("/things")
    async def replace():
        return {}

    @app.get("/busy")
    async def busy():
        raise web.unavailable("kafka", retry_after_s=3)

    @app.get("/bug")
    async def bug():
        raise RuntimeError("secret detail")

    web.install(app, max_body=1000)
    return TestClient(app, raise_server_exceptions=False)


def check(answer, status, **members):
    body = answer.json()
    assert answer.status_code == status == body["status"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["trace_id"] == answer.headers["x-request-id"]
    assert len(body["trace_id"]) == 32
    for name, value in members.items():
        assert body[name] == value
    return body


def test_pointers_of_mistakes(client):
    assert client.post("/things", json={"name": "a", "leaves": [{"operator": "eq"}]}).status_code == 201
    body = check(client.post("/things", json={"name": "a", "leaves": [{"operator": 1}]}), 422, instance="/things")
    assert body["errors"][0]["pointer"] == "/leaves/0/operator"
    body = check(client.post("/things", json={"name": "a", "colour": 1}), 422)
    assert (body["errors"][0]["pointer"], body["errors"][0]["code"]) == ("/colour", "unknown_field")
    body = check(client.post("/things", json={"leaves": []}), 422)
    assert (body["errors"][0]["pointer"], body["errors"][0]["code"]) == ("/name", "required")
    body = check(client.post("/models", json={"size": "x", "colour": 1}), 422)
    assert {(e["pointer"], e["code"]) for e in body["errors"]} == {
        ("/size", "int_parsing"),
        ("/colour", "unknown_field"),
    }


@pytest.mark.parametrize("body", [b"{", b"", b"NaN", b'{"name":"\xff"}', b'{"name":"a"}}'])
def test_what_is_not_json_is_400(client, body):
    check(client.post("/things", content=body, headers={"content-type": "application/json"}), 400)


def test_limits_types_and_paths(client):
    check(client.post("/things", content=b"x" * 1001, headers={"content-type": "application/json"}), 413)

    def chunks():
        for _ in range(20):
            yield b" " * 100

    check(client.post("/things", content=chunks(), headers={"content-type": "application/json"}), 413)
    check(client.post("/things", content=b"<a/>", headers={"content-type": "text/xml"}), 415)
    check(client.get("/nothing"), 404, type="/problems/not-found")
    check(client.get("/things"), 405)


def test_unavailable_says_when_to_come_back(client):
    answer = client.get("/busy")
    check(answer, 503)
    assert answer.headers["retry-after"] == "3"


def test_a_bug_tells_nothing(client):
    assert "secret" not in str(check(client.get("/bug"), 500))


def test_a_trace_is_continued(client):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = client.get("/busy", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert answer.headers["x-request-id"] == trace


def test_pointer_of():
    assert pointer_of("$.batch[3].a/b") == "/batch/3/a~1b"
    assert pointer_of("$") == ""


def test_problem_round_trip():
    problem = Problem(429, "too-many", "Slow down", headers={"Retry-After": "1"})
    again = Problem.decode(problem.encode())
    assert (again.status, again.type, again.headers) == (429, "/problems/too-many", {"Retry-After": "1"})


def test_a_wrong_method_is_told_every_method_the_address_has(client):
    refused = client.delete("/things")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "POST, PUT"
    assert refused.json()["type"] == "/problems/method-not-allowed"


@pytest.mark.parametrize("included", [False, True])
def test_an_address_that_is_spelt_out_does_not_name_the_methods_of_a_pattern_that_fits_it_too(included):
    app = FastAPI()
    routes = APIRouter() if included else app
    routes.get("/m/{id}/raw")(lambda id: id)
    routes.post("/m/{id}/{action}")(lambda id, action: id)
    if included:
        app.include_router(routes)
    web.install(app)
    client = TestClient(app)
    assert client.options("/m/1/raw").headers["Allow"] == "GET"
    assert client.options("/m/1/open").headers["Allow"] == "POST"


def test_a_mounted_folder_says_that_its_files_can_be_read(tmp_path):
    app = Starlette(routes=[Mount("/static", StaticFiles(directory=tmp_path))])
    web.install(app)
    refused = TestClient(app).post("/static/a.css")
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD")
