"""File imports over a sink in memory."""

import asyncio
import json

import pytest

from rondo_common import keys
from services.ingestion.imports import runner as runner_module
from services.ingestion.imports.jobs import Jobs
from tests.support.ingestion_app import memory_door

MAPPING = {
    "type": "track",
    "event": "Order Completed",
    "userId": "customer",
    "timestamp": {"column": "date", "format": "%Y%m%d"},
    "properties": {
        "total": {"column": "dollars", "as": "number"},
        "cds": {"column": "cds", "as": "integer"},
        "source": {"value": "file"},
    },
}
ROWS = ["customer,date,cds,dollars", "1,19970101,1,11.77", "1,19970102,2,12.5", ",19970102,1,1", "2,not a day,1,1"]
ROWS += ["3,19970103,1", '4,19970104,1,"x"', "", "5,19970105,,", "Zoë,19980101,1,3"]


@pytest.fixture
async def door(tmp_path):
    return memory_door(tmp_path)


async def post(http, text, mapping=MAPPING, **fields):
    data = {"mapping": json.dumps(mapping), **fields}
    return await http.post("/v1/imports", files={"file": ("orders.csv", text.encode())}, data=data)


async def finish(door, http, id):
    """Work the import off and give its last status."""
    task = asyncio.create_task(door.application.runner.run())
    try:
        for _ in range(500):
            status = (await http.get(f"/v1/imports/{id}")).json()
            if status["status"] in ("finished", "failed"):
                return status
            await asyncio.sleep(0.01)
    finally:
        task.cancel()
    raise AssertionError(status)


async def test_a_file_becomes_events(door):
    async with door.client as http:
        answer = await post(http, "\n".join(ROWS))
        assert answer.status_code == 202
        id = answer.json()["import_id"]
        status = await finish(door, http, id)
        assert (status["status"], status["rows"], status["accepted"], status["rejected"]) == ("finished", 8, 4, 4)
        errors = (await http.get(f"/v1/imports/{id}/errors?limit=3")).json()
        rest = (await http.get(f"/v1/imports/{id}/errors?cursor={errors['next_cursor']}")).json()
    found = [(e["row"], e["code"], e["pointer"]) for e in errors["data"] + rest["data"]]
    assert rest["next_cursor"] is None
    assert found == [
        (3, "required", "/userId"),
        (4, "wrong_type", "/timestamp"),
        (5, "wrong_type", ""),
        (6, "wrong_type", "/properties/total"),
    ]
    first, second, fifth, last = door.events()
    assert first["timestamp"] == "1997-01-01T00:00:00Z"
    assert first["properties"] == {"total": 11.77, "cds": 1, "source": "file"}
    assert first["historical"] is True
    assert first["message_id"] != second["message_id"]
    assert fifth["properties"] == {"source": "file"}
    assert last["user_id"] == "Zoë"
    # refused by validation, not by the mapping: also on the rejected topic
    assert [r["pointer"] for r in door.rejected()] == ["/rows/2/userId"]


async def test_the_same_file_again_changes_nothing(door):
    async with door.client as http:
        id = (await post(http, "\n".join(ROWS))).json()["import_id"]
        await finish(door, http, id)
        written = len(door.sink.messages)
        again = await post(http, "\n".join(ROWS))
        assert again.status_code == 202
        assert again.json()["import_id"] == id
        await finish(door, http, id)
        assert len(door.sink.messages) == written
        other = await post(http, "\n".join(ROWS), {**MAPPING, "event": "Other"})
        assert other.json()["import_id"] != id


async def test_a_dry_run_writes_nothing(door):
    async with door.client as http:
        id = (await post(http, "\n".join(ROWS), dry_run="true")).json()["import_id"]
        status = await finish(door, http, id)
    assert (status["accepted"], status["rejected"], status["dry_run"]) == (4, 4, True)
    assert door.sink.messages == []


async def test_an_interrupted_import_goes_on_with_the_same_ids(door, tmp_path, monkeypatch):
    monkeypatch.setattr(runner_module, "SLICE", 10)
    rows = ["customer,date,cds,dollars", *(f"{i},19970101,1,{i}" for i in range(95)), ",19970101,1,1"]
    async with door.client as http:
        id = (await post(http, "\n".join(rows))).json()["import_id"]
        kept = door.sink.write
        calls = 0

        async def dies_in_the_fifth(messages, at):
            nonlocal calls
            calls += 1
            await kept(messages, at)
            if calls == 5:  # acknowledged, but the job does not know yet
                raise asyncio.CancelledError

        door.sink.write = dies_in_the_fifth
        with pytest.raises(asyncio.CancelledError):
            await door.application.runner.run()
        door.sink.write = kept
        middle = (await http.get(f"/v1/imports/{id}")).json()
        assert (middle["status"], middle["rows"]) == ("running", 40)
        status = await finish(door, http, id)
    assert (status["rows"], status["accepted"], status["rejected"]) == (96, 95, 1)
    ids_seen = [e["message_id"] for e in door.events()]
    assert len(ids_seen) == 105
    assert len(set(ids_seen)) == 95
    jobs = Jobs(tmp_path / "imports")
    assert not jobs.file(jobs.get(id)).exists()


async def test_an_import_waits_for_kafka(door, monkeypatch):
    monkeypatch.setattr(runner_module, "_PAUSE_S", 0.01)
    door.sink.down = True
    async with door.client as http:
        id = (await post(http, "\n".join(ROWS))).json()["import_id"]
        task = asyncio.create_task(door.application.runner.run())
        await asyncio.sleep(0.05)
        assert (await http.get(f"/v1/imports/{id}")).json()["status"] == "running"
        door.sink.down = False
        for _ in range(200):
            if (await http.get(f"/v1/imports/{id}")).json()["status"] == "finished":
                break
            await asyncio.sleep(0.01)
        task.cancel()
    assert len(door.events()) == 4


@pytest.mark.parametrize(
    "mapping,text,status,pointer",
    [
        ({"type": "buy", "userId": "a"}, "a\n1", 422, "/mapping/type"),
        ({"type": "track", "event": "x"}, "a\n1", 422, "/mapping/userId"),
        ({"userId": "b"}, "a\n1", 422, "/mapping/userId"),
        ({"userId": "a", "colour": 1}, "a\n1", 422, "/mapping/colour"),
        ({"userId": "a", "traits": {"x": {"column": "a", "as": "colour"}}}, "a\n1", 422, "/mapping/traits/x/as"),
        ({"userId": "a", "delimiter": "||"}, "a\n1", 422, "/mapping/delimiter"),
        ({"userId": "a"}, "a,a\n1,2", 422, "/file"),
        ({"userId": "a"}, "", 422, "/mapping/userId"),
        ([], "a\n1", 422, ""),
    ],
)
async def test_wrong_mappings_are_refused_with_their_pointer(door, mapping, text, status, pointer):
    async with door.client as http:
        answer = await post(http, text, mapping)
    assert answer.status_code == status, answer.text
    assert pointer in [e["pointer"] for e in answer.json()["errors"]] or not pointer


async def test_other_refusals(door):
    async with door.client as http:
        assert (await http.post("/v1/imports", json={})).status_code == 415
        assert (await http.post("/v1/imports", files={"file": b"a\n1"})).status_code == 422
        answer = await http.post("/v1/imports", data={"mapping": "{}"}, files={"other": b"x"})
        assert answer.status_code == 422
        answer = await http.post("/v1/imports", data={"mapping": "{"}, files={"file": b"a\n1"})
        assert answer.status_code == 400
        headers = {"content-type": "multipart/form-data; boundary=x"}
        assert (await http.post("/v1/imports", content=b"rubbish", headers=headers)).status_code in (400, 422)
        id = (await post(http, "\n".join(ROWS))).json()["import_id"]
        foreign = (keys.make_internal_key(door.settings.secret, "other"), "")
        assert (await http.get(f"/v1/imports/{id}", auth=foreign)).status_code == 404
        assert (await http.get(f"/v1/imports/{id}", auth=("wk_no", ""))).status_code == 401
        for wrong in ("im0000000000000000", "im1", "..%2f..%2fetc"):
            assert (await http.get(f"/v1/imports/{wrong}")).status_code == 404


async def test_a_file_that_is_no_text_fails_and_may_be_sent_again(door):
    async with door.client as http:
        text = b"a\n1\n\xff\xfe\n"
        data = {"mapping": json.dumps({"userId": "a"})}
        answer = await http.post("/v1/imports", files={"file": text}, data=data)
        assert answer.status_code in (202, 422)
        if answer.status_code == 202:
            status = await finish(door, http, answer.json()["import_id"])
            assert status["status"] == "failed"
            assert status["error"]
