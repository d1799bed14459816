"""From a send and a member to a message: finds the compiled template, renders, checks. Pure."""

from collections import OrderedDict
from collections.abc import Hashable
from hashlib import blake2b
from typing import Any

import msgspec

from rondo_common.links import Link, Signer
from rondo_common.records import Definition, Send
from services.delivery.gate import MARKETING
from services.delivery.model import MemberState, Message
from services.delivery.render import mime
from services.delivery.render.compiled import Addresses, Compiled
from services.delivery.render.liquid import Aborted, TemplateError

KEPT = 512
"""Compiled templates kept, by version and language."""


class Refused(Exception):
    """This message can't be made. `reason` is a code for rondo.deliveries.v1."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Renderer:
    """Renders the messages of one channel. `base` is the public address of the links service."""

    def __init__(self, channel: str, secret: str, base: str, default_sender: str):
        self._channel = channel
        self._signer = Signer(secret)
        self._base = base.rstrip("/")
        self._default_sender = default_sender
        self._compiled: OrderedDict[Hashable, Compiled | TemplateError] = OrderedDict()

    def message(self, send: Send, member: MemberState, template: Definition | None, now: int) -> Message:
        """The message of `send`; `template` unless the send brings its content. Refused when there is none."""
        link = Link(
            "click", send.workspace, send.member_id, send.touch_id, send.run_id, send.campaign, send.channel, send.topic
        )
        addresses = Addresses(self._signer, self._base, link)
        variables = {
            "member": msgspec.json.decode(member.traits),
            "trigger": _object(send.data),
            "event": _object(send.event),
            "campaign": {
                "id": send.campaign,
                "version": send.version,
                "run_id": send.run_id,
                "step": send.step,
                "topic": send.topic,
                "channel": send.channel,
            },
        }
        try:
            compiled = self._find(send, member.locale, template)
            rendered = compiled.render(variables, addresses)
        except TemplateError as e:
            raise Refused("template_error", str(e)) from e
        except Aborted as e:
            raise Refused("template_abort", str(e)) from e
        args = {
            "touch_id": send.touch_id,
            "w": send.workspace,
            "m": send.member_id,
            "t": send.touch_id,
            "r": send.run_id,
            "c": send.campaign,
        }
        message = Message(
            to=member.address or "",
            text=rendered.text,
            html=rendered.html,
            subject=rendered.subject,
            sender=rendered.sender,
            unsubscribe=addresses.unsubscribe if self._channel == "email" and send.class_ == MARKETING else "",
            args=args,
            at=now,
            text_pieces=rendered.text_pieces,
            html_pieces=rendered.html_pieces,
        )
        if self._channel == "email":
            try:
                mime.check(message, self._default_sender)
            except mime.UnsafeHeader as e:
                raise Refused(e.code, str(e)) from e
        elif not message.text.strip():
            raise Refused("template_error", "the message is empty")
        return message

    def preview(
        self, body: dict[str, Any], locale: str | None, variables: dict[str, Any], workspace: str, member_id: str
    ) -> tuple[Compiled, Any]:
        """A template body rendered without being kept, links signed for no touch. TemplateError, Aborted."""
        compiled = Compiled(body, self._channel, locale)
        link = Link("click", workspace, member_id, "preview", channel=self._channel)
        return compiled, compiled.render(variables, Addresses(self._signer, self._base, link))

    def _find(self, send: Send, locale: str | None, template: Definition | None) -> Compiled:
        key: Hashable
        if template is not None:
            key, body = (template.workspace, template.id, template.version, locale), template.body
        elif send.content is not None:
            body = send.content
            key = (blake2b(bytes(body), digest_size=16).digest(), locale)
        else:
            raise TemplateError("the message names no template")
        found = self._compiled.get(key)
        if found is None:
            try:
                found = Compiled(msgspec.json.decode(body), self._channel, locale)
            except TemplateError as e:
                found = e
            self._compiled[key] = found
            if len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        else:
            self._compiled.move_to_end(key)
        if isinstance(found, TemplateError):
            raise found
        return found


def _object(raw: msgspec.Raw | None) -> dict[str, Any]:
    """JSON of the variables a send brings; anything but an object counts as none."""
    found = msgspec.json.decode(raw) if raw is not None else None
    return found if isinstance(found, dict) else {}
