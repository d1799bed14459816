"""`rondo import`, `send`, `explain`: what they ask the API, what they print, how they fail."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from rondo_cli import state
from rondo_cli.commands import calls, imports
from rondo_cli.errors import Failure
from rondo_cli.local.logs import Follower
from rondo_cli.local.process import started_at


@pytest.fixture
def gateway(tmp_path, monkeypatch):
    """A gateway that remembers what it was asked and answers as told: `answers` first."""

    made = SimpleNamespace(asked=[], answer=(200, {}), answers=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.asked.append((self.command, self.path, headers, body))
            status, answer = made.answers.pop(0) if made.answers else made.answer
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("RONDO_DIR", str(tmp_path))
    services = {"gateway": {"http": f"http://127.0.0.1:{server.server_port}"}}
    supervisor = {"pid": os.getpid(), "started": started_at(os.getpid())}
    state.write(tmp_path, {"supervisor": supervisor, "keys": {"admin": "rk_x"}, "services": services})
    yield made
    server.shutdown()
    server.server_close()


def test_send_asks_for_one_transactional_message(gateway, capsys):
    gateway.answer = (202, {"touch_id": "t1"})
    assert calls.send("email", "u1", "receipt", '{"n":1}', False) == 0
    [(method, path, headers, body)] = gateway.asked
    assert (method, path) == ("POST", "/v1/send/email")
    assert headers["authorization"] == "Bearer rk_x"
    assert headers["idempotency-key"]
    assert json.loads(body) == {"template": "receipt", "to": {"id": "u1"}, "data": {"n": 1}}
    assert "t1" in capsys.readouterr().out
    with pytest.raises(Failure, match="not JSON"):
        calls.send("email", "u1", "receipt", "{", False)


def test_explain_prints_every_gate(gateway, capsys):
    gates = [{"gate": "consent", "verdict": "skip", "reason": "consent_denied", "inputs": {"state": "denied"}}]
    decision = {"verdict": "skip", "reason": "consent_denied", "gates": gates}
    gateway.answer = (200, {"status": "recorded", "as_of": "2026-12-01T00:00:00Z", "decision": decision})
    assert calls.explain("a+b@x", "spring", "2026-12-01T00:00:00Z", False) == 0
    assert gateway.asked[0][1] == "/v1/explain?member=a%2Bb%40x&campaign=spring&at=2026-12-01T00%3A00%3A00Z"
    shown = capsys.readouterr().out
    assert "consent_denied" in shown
    assert "recorded as of" in shown


@pytest.fixture
def table(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id,n\n1,2\n")
    (tmp_path / "m.json").write_text("{}")
    return {"file": str(tmp_path / "a.csv"), "mapping": str(tmp_path / "m.json")}


def test_import_posts_the_file_and_its_mapping(gateway, table, capsys):
    gateway.answer = (202, {"import_id": "im1"})
    assert imports.import_(**table, dry_run=True, wait=False, json=True) == 0
    [(_, path, headers, body)] = gateway.asked
    assert path == "/v1/imports"
    assert headers["content-type"].startswith("multipart/form-data; boundary=")
    for part in (b'name="file"; filename="a.csv"', b"id,n\n1,2\n", b'name="mapping"', b'name="dry_run"\r\n\r\ntrue'):
        assert part in body
    assert json.loads(capsys.readouterr().out) == {"import_id": "im1"}


@pytest.mark.parametrize(("dry_run", "code"), [(False, 0), (True, 1)])
def test_import_is_followed_and_names_what_was_refused(gateway, table, capsys, monkeypatch, dry_run, code):
    monkeypatch.setattr(imports, "EVERY_S", 0)
    job = {"import_id": "im1", "rows": 3, "accepted": 2, "rejected": 1, "rate_per_s": 9.0, "dry_run": dry_run}
    refused = {"row": 3, "code": "wrong_type", "pointer": "/properties/total", "detail": "not a number"}
    under_way = [(200, job | {"status": s, "error": None}) for s in ("queued", "running", "finished")]
    gateway.answers = [(202, {"import_id": "im1"}), *under_way, (200, {"data": [refused], "next_cursor": None})]
    assert imports.import_(**table, dry_run=dry_run, wait=True, json=False) == code
    shown = capsys.readouterr().out
    assert "im1" in shown and "2 of 3 rows" in shown
    assert "wrong_type" in shown and "/properties/total" in shown
    assert [path for _, path, _, _ in gateway.asked][1:] == ["/v1/imports/im1"] * 3 + [
        "/v1/imports/im1/errors?limit=10"
    ]


def test_an_import_that_fails_says_why(gateway, table):
    job = {"import_id": "im1", "rows": 0, "accepted": 0, "rejected": 0, "rate_per_s": 0.0, "dry_run": False}
    gateway.answers = [(202, {"import_id": "im1"}), (200, job | {"status": "failed", "error": "the file is gone"})]
    with pytest.raises(Failure, match="the file is gone"):
        imports.import_(**table, dry_run=False, wait=True, json=False)


def test_an_import_nobody_can_be_asked_about_goes_on(gateway, table):
    gateway.answers = [(202, {"import_id": "im1"}), (503, {"title": "Not ready", "status": 503})]
    with pytest.raises(Failure, match="503 Not ready\nthe import goes on by itself"):
        imports.import_(**table, dry_run=False, wait=True, json=False)


def test_a_refusal_is_shown_in_the_problem_s_words(gateway):
    errors = [{"pointer": "/template", "code": "unknown", "detail": "no template receipt"}]
    gateway.answer = (422, {"title": "Not valid", "status": 422, "detail": "see errors", "errors": errors})
    with pytest.raises(Failure) as e:
        calls.send("email", "u1", "receipt", "{}", False)
    assert str(e.value) == "422 Not valid: see errors\n  /template: no template receipt"


def test_the_log_stream_shows_what_is_new_under_its_name(tmp_path, capsys):
    (tmp_path / "profiles.log").write_text("old\n")
    follower = Follower(tmp_path)
    with (tmp_path / "profiles.log").open("a") as f:
        f.write("new\nhalf")
    (tmp_path / "links.log").write_text("first\n")
    follower.flush()
    follower.flush()
    (tmp_path / "profiles.log").write_text("cut\n")
    follower.flush()
    shown = [line.split(None, 1) for line in capsys.readouterr().out.splitlines()]
    assert shown == [["links", "first"], ["profiles", "new"], ["profiles", "cut"]]
