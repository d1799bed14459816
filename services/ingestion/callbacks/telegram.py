"""Telegram's webhook: messages to the bot, and members who block it.

Telegram sends back the secret_token that the webhook was set with. Updates are known by update_id.
Of all updates two kinds count: `message` in a private chat, and `my_chat_member` (the bot was blocked:
status kicked), which is a member's STOP. Field names as in the Bot API.
"""

import hmac
from typing import Any

import msgspec

from rondo_common import ids
from rondo_common.clock import iso
from rondo_common.problems import Problem
from rondo_common.records import Inbound
from services.ingestion.callbacks.common import IGNORED, MAX_TEXT, Recorder, forbidden
from services.ingestion.keywords import keyword

PROVIDER = "telegram"
MAX_BODY = 1024 * 1024
HEADER = "x-telegram-bot-api-secret-token"
_LATEST = 253402300799


class _Chat(msgspec.Struct):
    id: int
    type: str = "private"


class _Message(msgspec.Struct):
    chat: _Chat
    date: int = 0
    text: str | None = None
    caption: str | None = None


class _Standing(msgspec.Struct):
    status: str


class _Membership(msgspec.Struct):
    chat: _Chat
    new_chat_member: _Standing
    date: int = 0


class _Update(msgspec.Struct):
    update_id: int
    message: _Message | None = None
    my_chat_member: _Membership | None = None


class Telegram:
    """Verifies and turns updates into Inbound records."""

    def __init__(self, recorder: Recorder):
        self._recorder = recorder
        self._secret = recorder.settings.telegram_secret.encode()

    async def take(self, token: str, body: bytes, traceparent: str = "") -> int:
        """The number of records kept. Problem 403 for a wrong token, 400 for a body that is no update."""
        if not self._secret or not hmac.compare_digest(token.encode("utf-8", "replace"), self._secret):
            raise forbidden(PROVIDER)
        try:
            update = msgspec.json.decode(body, type=_Update)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
            raise Problem(400, "malformed", "The request can't be read", f"Not an update: {e}") from None
        record = self.record(update)
        await self._recorder.record(PROVIDER, [record] if record else [], traceparent)
        return 1 if record else 0

    def record(self, update: Any) -> Inbound | None:
        """The Inbound of an update; None for kinds that are not kept."""
        if update.message is not None and update.message.chat.type == "private":
            text = (update.message.text or update.message.caption or "").replace("\0", "")[:MAX_TEXT]
            if not text:
                IGNORED.labels(PROVIDER, "no_text").inc()
                return None
            # a bot's commands begin with a slash; /start only opens a chat, it grants nothing
            word = text[1:] if text.lower() in ("/stop", "/help") else text
            return self._inbound(update.update_id, update.message.chat.id, update.message.date, text, keyword(word))
        change = update.my_chat_member
        if change is not None and change.chat.type == "private" and change.new_chat_member.status == "kicked":
            return self._inbound(update.update_id, change.chat.id, change.date, "", "stop")
        IGNORED.labels(PROVIDER, "kind").inc()
        return None

    def _inbound(self, update_id: int, chat_id: int, date: int, text: str, word: str | None) -> Inbound:
        workspace = self._recorder.settings.workspace
        at = date * 1000 if 0 < date < _LATEST else self._recorder.clock.now()
        return Inbound(
            workspace=workspace,
            id=ids.derived(str(update_id), PROVIDER),
            channel="messaging",
            provider=PROVIDER,
            address_kind="telegram_chat_id",
            address_id=self._recorder.address_id(workspace, "telegram_chat_id", str(chat_id)),
            text=text,
            at=iso(at),
            keyword=word,
        )
