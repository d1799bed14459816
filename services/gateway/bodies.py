"""Bodies of calls about campaigns and sends, as people send them (WIRE 7)."""

from typing import Any

import msgspec


class Person(msgspec.Struct, forbid_unknown_fields=True):
    """Somebody named by exactly one kind of id."""

    id: str | None = None
    email: str | None = None
    phone: str | None = None
    anonymous_id: str | None = None
    member_id: str | None = None

    def named(self) -> tuple[str, str] | None:
        """(id_type, id), None unless exactly one is given."""
        given = [(k, v) for k in self.__struct_fields__ if (v := getattr(self, k))]
        return given[0] if len(given) == 1 else None


class PersonData(msgspec.Struct, forbid_unknown_fields=True):
    """An entry of per_user_data."""

    id: str | None = None
    email: str | None = None
    data: dict[str, Any] = {}


class Trigger(msgspec.Struct, forbid_unknown_fields=True):
    """POST /v1/campaigns/{id}/triggers. Exactly one of ids, emails, per_user_data, recipients, broadcast."""

    data: dict[str, Any] = {}
    ids: list[str] | None = None
    emails: list[str] | None = None
    per_user_data: list[PersonData] | None = None
    recipients: dict[str, Any] | None = None
    broadcast: bool = False
    id_ignore_missing: bool = False


class BrazeRecipient(msgspec.Struct):
    """A recipient as Braze writes it; fields we have no use for are left alone."""

    external_user_id: str | None = None
    email: str | None = None
    trigger_properties: dict[str, Any] = {}


class BrazeTrigger(msgspec.Struct):
    """POST /campaigns/trigger/send as Braze has it."""

    campaign_id: str
    trigger_properties: dict[str, Any] = {}
    recipients: list[BrazeRecipient] = []
    broadcast: bool = False


class Send(msgspec.Struct, forbid_unknown_fields=True):
    """POST /v1/send/{channel}: one transactional message. `template` or `content`."""

    to: Person
    template: str | None = None
    content: dict[str, Any] | None = None
    data: dict[str, Any] = {}


class Render(msgspec.Struct, forbid_unknown_fields=True):
    """POST /v1/templates/{id}/render. `member` by user id; absent: nobody in particular."""

    channel: str
    member: str | None = None
    data: dict[str, Any] = {}
    event: dict[str, Any] = {}
    locale: str = ""
