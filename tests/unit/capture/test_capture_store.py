"""The inbox survives a restart, and a record torn by a kill."""

from rondo_common.sms import segments
from services.capture.magic import Counter, Plan, of_chat, of_email, of_phone
from services.capture.model import Message
from services.capture.store import Inbox


def _message(inbox: Inbox, touch: str) -> Message:
    id = inbox.next_id()
    return Message(id, "email", "smtp", id, "a@b.c", "x@y.z", "2026-01-01T00:00:00Z", 1, {"t": touch})


def test_messages_and_numbers_go_on_after_a_restart_and_a_torn_record(tmp_path):
    inbox = Inbox(str(tmp_path))
    for touch in ("t1", "t2", "t2"):
        inbox.add(_message(inbox, touch))
    with open(tmp_path / "inbox.log", "ab") as f:
        f.write(b"\x40\x00\x00\x00torn")
    again = Inbox(str(tmp_path))
    assert again.stats() == {"total": 3, "distinct_touches": 2, "repeats": 1, "by_channel": {"email": 3}}
    again.add(_message(again, "t3"))
    third = Inbox(str(tmp_path))
    assert [m.id for m in third.find()[0]] == ["i4", "i3", "i2", "i1"]
    third.clear()
    assert Inbox(str(tmp_path)).stats()["total"] == 0


def test_a_workspace_empties_its_own_inbox_only(tmp_path):
    inbox = Inbox(str(tmp_path))
    for workspace in ("one", "two", "one"):
        message = _message(inbox, "t")
        message.args["w"] = workspace
        inbox.add(message)
    inbox.clear("one")
    for seen in (inbox, Inbox(str(tmp_path))):
        assert seen.stats("one")["total"] == 0
        assert seen.stats("two")["total"] == 1


def test_magic_addresses():
    assert of_email("ann+hardbounce@example.com").verdict == "hardbounce"
    assert of_email("ann+x+Stop@example.com") == Plan(act="stop", text="STOP")
    assert of_email("hardbounce@example.com") == Plan()
    assert of_phone("+15005551002").text == "when does it open?"
    assert of_phone("+33612345678") == Plan()
    assert of_chat("403001").verdict == "blocked"
    counter = Counter()
    plan = of_email("a+500@b.c")
    assert [counter.verdict(plan, "t") for _ in range(4)] == ["500", "500", None, None]


def test_sms_segments():
    assert segments("") == 1
    assert segments("a" * 160) == 1
    assert segments("a" * 161) == 2
    assert segments("a" * 159 + "€") == 2
    assert segments("a" * 158 + "€") == 1
    assert segments("я" * 70) == 1
    assert segments("я" * 71) == 2
    assert segments("😀" * 35) == 1
    assert segments("😀" * 36) == 2
