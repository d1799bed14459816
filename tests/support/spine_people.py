"""Members for end-to-end tests: what introduces one, as Segment events."""

from typing import Any

CONTENT = {
    "default_locale": "en",
    "email": {
        "from": "Shop <hi@example.com>",
        "subject": "Hi {{ member.firstName | default: 'you' }}",
        "mjml": "<mjml><mj-body><mj-section><mj-column><mj-text>Dear {{ member.firstName }}, {{ event.total }}"
        "{{ trigger.code }} <a href='https://shop.example/offers'>offers</a> "
        "<a href='{{ links.unsubscribe }}'>out</a></mj-text></mj-column></mj-section></mj-body></mjml>",
    },
    "sms": {"text": "Hi {{ member.firstName }} {{ event.total }}{{ trigger.code }}"},
    "messaging": {"text": "Hi {{ member.firstName }} {{ event.total }}{{ trigger.code }}"},
    "locales": {"fr": {"sms": {"text": "Salut {{ member.firstName }} {{ event.total }}{{ trigger.code }}"}}},
}
"""A template with all channels, the member, an event and a trigger in it."""

GRANTED, DENIED = "granted", "denied"


def track(user: str, name: str, at: str, message_id: str, **properties: Any) -> dict[str, Any]:
    """A track event."""
    return {
        "type": "track",
        "event": name,
        "userId": user,
        "timestamp": at,
        "messageId": message_id,
        "properties": properties,
    }


def introduce(
    user: str, at: str, consents: dict[tuple[str, str], str] | None = None, **traits: Any
) -> list[dict[str, Any]]:
    """An identify with an e-mail address and a phone number made from the id (unless given), and consents
    by (channel, topic); e-mail and SMS for offers unless told."""
    traits = {
        "email": f"{user}@example.com",
        "phone": f"+3361{sum(user.encode()) % 1000:03d}{hash_of(user):04d}",
        "firstName": user.capitalize(),
        **traits,
    }
    wanted = {("email", "offers"): GRANTED, ("sms", "offers"): GRANTED} if consents is None else consents
    out: list[dict[str, Any]] = [
        {
            "type": "identify",
            "userId": user,
            "timestamp": at,
            "messageId": f"{user}-identify",
            "traits": {k: v for k, v in traits.items() if v is not None},
        }
    ]
    for (channel, topic), state in wanted.items():
        out.append(
            track(
                user,
                "Consent Changed",
                at,
                f"{user}-{channel}-{topic}-{state}",
                channel=channel,
                topic=topic,
                state=state,
                source="form",
                text_version="1",
            )
        )
    return out


def hash_of(user: str) -> int:
    """Four digits that follow from the id."""
    number = 0
    for byte in user.encode():
        number = (number * 31 + byte) % 9973
    return number
