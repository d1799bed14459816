"""What the delivery tests share: a stage in a driver, a member, a template, sends."""

from typing import Any

import msgspec

from rondo_common import ids, topics
from rondo_common.clock import iso
from rondo_common.records import Command, ConsentEntry, Contact, Definition, Delivery, Profile, Send, Suppression
from services.delivery.handlers.parts import Parts
from services.delivery.model import Answer, Call, Verdict
from services.delivery.render.renderer import Renderer
from services.delivery.streams import DeliveryStage
from tests.support.stage_driver import StageDriver

NOW = 1_796_000_000_000
MEMBER = "5f0c1d2e-1111-5222-8333-444455556666"
TOUCH = "0b1c1d2e-1111-5222-8333-444455556667"
WS = "demo"
SECRET = "s"
BODY = {
    "default_locale": "en",
    "email": {
        "from": "Shop <hi@example.com>",
        "subject": "Hi {{ member.firstName | default: 'you' }}",
        "html": "<p>Hi {{ member.firstName }} <a href='https://shop.example/x'>look</a></p>",
    },
    "sms": {"text": "Hi {{ member.firstName }}"},
    "messaging": {"text": "Hi {{ member.firstName }} {{ trigger.code }}"},
    "locales": {"fr": {"sms": {"text": "Salut {{ member.firstName }}"}}},
}
PROVIDER = {"email": "smtp", "sms": "twilio", "messaging": "telegram"}


def parts(channel: str) -> Parts:
    return Parts(
        channel=channel,
        provider=PROVIDER[channel],
        askable=channel == "sms",
        secret=SECRET,
        renderer=Renderer(channel, SECRET, "http://links.test", "Rondo <no-reply@example.com>"),
        retry_waits=(2_000, 10_000),
        reconcile_steps=(2_000, 10_000, 60_000, 300_000),
        keep=7 * 86_400_000,
    )


def contact(**more: Any) -> Contact:
    granted = [ConsentEntry(c, "*", "granted", iso(NOW), "e1") for c in ("email", "sms", "messaging")]
    base: dict[str, Any] = {
        "email": "ann@example.com",
        "phone": "+33612345678",
        "telegram_chat_id": "991",
        "consents": granted,
    }
    return Contact(workspace=WS, member_id=MEMBER, **{**base, **more})


def send(channel: str = "email", touch: str = TOUCH, **more: Any) -> Send:
    base: dict[str, Any] = {
        "decision_id": "d1",
        "attempt": 1,
        "run_id": "r1",
        "campaign": "spring",
        "version": 2,
        "step": "main",
        "lane": "bulk",
        "class_": "marketing",
        "topic": "offers",
        "not_before": iso(NOW),
        "send_by": iso(NOW + 300_000),
        "template": "t1",
        "template_version": 3,
    }
    return Send(workspace=WS, touch_id=touch, member_id=MEMBER, channel=channel, **{**base, **more})


def suppression(channel: str, reason: str, address_id: str | None = None) -> Suppression:
    return Suppression(channel=channel, reason=reason, at=iso(NOW), address_id=address_id)


class World:
    """A stage of one channel in a driver, and short ways to feed it."""

    def __init__(self, channel: str = "email", template: bool = True, member: bool = True, partitions: int = 1):
        self.channel = channel
        self.parts = parts(channel)
        self.driver = StageDriver(DeliveryStage(self.parts, partitions), clock=NOW, partitions=partitions)
        if template:
            self.template()
        if member:
            self.contact()
            self.profile()

    def template(self, version: int = 3, body: dict[str, Any] = BODY) -> None:
        d = Definition(WS, "template", "t1", version, msgspec.Raw(msgspec.json.encode(body)), iso(NOW))
        self.command("definition.activated", definition=d)

    def command(self, kind: str, **more: Any) -> None:
        c = Command(kind=kind, workspace=WS, id=f"{kind}:{len(self.driver.emitted())}", at=iso(self.driver.now), **more)
        self.driver.feed(topics.COMMANDS, f"{WS}:{kind}", c)

    def contact(self, **more: Any) -> None:
        self.driver.feed(topics.CONTACTS, ids.member_key(WS, MEMBER), contact(**more))

    def profile(self, **traits: Any) -> None:
        raw = {k: msgspec.Raw(msgspec.json.encode(v)) for k, v in {"firstName": "Ann", **traits}.items()}
        self.driver.feed(
            topics.PROFILES, ids.member_key(WS, MEMBER), Profile(workspace=WS, member_id=MEMBER, traits=raw)
        )

    def send(self, touch: str = TOUCH, **more: Any) -> Send:
        made = send(self.channel, touch, **more)
        self.driver.feed(topics.sends(self.channel, made.lane), ids.member_key(WS, MEMBER), made)
        return made

    def callback(self, status: str, touch: str = TOUCH) -> None:
        d = Delivery(
            workspace=WS,
            id=f"cb:{touch}:{status}",
            touch_id=touch,
            member_id=MEMBER,
            channel=self.channel,
            provider=self.parts.provider,
            status=status,
            at=iso(self.driver.now),
        )
        self.driver.feed(topics.DELIVERIES, ids.member_key(WS, MEMBER), d)

    def tasks(self, kind: type = Call) -> list[Any]:
        """What was asked of the effector, of one kind, in order."""
        return [p.task for p in self.driver.performed if isinstance(p.task, kind)]

    def answer(self, verdict: Verdict, id: str | None = None, **more: Any) -> None:
        """Answer the last call, or the perform `id`."""
        self.driver.answer(id or self.tasks()[-1].id, Answer(verdict, self.parts.provider, **more))

    def deliveries(self) -> list[Delivery]:
        return [e.value for e in self.driver.emitted(topics.DELIVERIES)]

    def statuses(self) -> list[str]:
        return [d.status for d in self.deliveries()]

    def state(self, touch: str = TOUCH) -> Any:
        return self.driver.state(f"o:{touch}")

    def advance(self, ms: int) -> None:
        self.driver.advance(self.driver.now + ms)
