"""The few pages people see: plain HTML without scripts, made to be read by everybody (WCAG 2.2 AA). Pure."""

from html import escape

CHANNEL_WORDS = {"email": "e-mail", "sms": "text message", "messaging": "chat message", "social": "social message"}

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex, nofollow",
}

_STYLE = (
    "body{font:1.125rem/1.5 system-ui,sans-serif;color:#1a1a1a;background:#fff;margin:0}"
    "main{max-width:36rem;margin:0 auto;padding:2rem 1rem}"
    "button{font:inherit;display:block;width:100%;min-height:3rem;margin:.75rem 0;padding:.5rem 1rem;"
    "border:2px solid #1d4ed8;border-radius:.375rem;cursor:pointer}"
    "button.first{background:#1d4ed8;color:#fff}button.other{background:#fff;color:#1d4ed8}"
    "button:focus-visible{outline:3px solid #b45309;outline-offset:2px}"
)


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )


def words(channel: str) -> str:
    return CHANNEL_WORDS.get(channel, "message")


def form(channel: str, topic: str) -> str:
    """Ask before anything changes: programs open this address too."""
    by = escape(words(channel))
    buttons = ""
    if topic and topic != "*":
        buttons = (
            f'<button class="first" name="scope" value="topic">Stop {by}s about {escape(topic)}</button>'
            f'<button class="other" name="scope" value="all">Stop all marketing by {by}</button>'
        )
    else:
        buttons = f'<button class="first" name="scope" value="all">Stop all marketing by {by}</button>'
    return _page(
        "Unsubscribe",
        "<p>Nothing has changed yet. Choose what you no longer want; it holds at once.</p>"
        f'<form method="post">{buttons}</form>'
        "<p>Messages you ask for, such as receipts, still come.</p>",
    )


def done(channel: str, topic: str) -> str:
    what = f"{words(channel)}s about {topic}" if topic and topic != "*" else f"marketing by {words(channel)}"
    return _page("You are unsubscribed", f'<p role="status">You will get no more {escape(what)} from us.</p>')


def not_saved() -> str:
    return _page(
        "Please try again",
        '<p role="alert">We could not save this just now. Nothing has changed. Try again in a minute.</p>',
    )


def unknown() -> str:
    return _page(
        "This link does not work", "<p>It is not complete, or was changed on its way. Try the one in the message.</p>"
    )
