"""Which whole messages are a wish to stop, to start again, or for help. Pure.

Exact single words in any case, as Twilio's opt-out handling has them, and the French ARRET. Blanks,
quotation marks and full stops around the word and accents in it do not count; more words do: "please
stop" is for a person to read.
"""

import re
import unicodedata

STOP = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT", "ARRET"})
START = frozenset({"START", "YES", "UNSTOP"})
HELP = frozenset({"HELP", "INFO"})

_AROUND = " \t\r\n\f\v\u00a0\u200b\ufeff.!\"'“”‘’«»"
_QUOTED = re.compile(
    r"(?im)^(?:>.*|-{2,}\s*original message\s*-{2,}|on .{1,300} wrote:|le .{1,300} a écrit\s?:|_{10,})\s*$"
)


def keyword(text: str) -> str | None:
    """stop, start or help; None for every other message."""
    if len(text) > 64:
        return None
    plain = unicodedata.normalize("NFKD", text.strip(_AROUND))
    word = "".join(c for c in plain if not unicodedata.combining(c)).upper()
    if word in STOP:
        return "stop"
    if word in START:
        return "start"
    return "help" if word in HELP else None


def own_words(text: str) -> str:
    """The part of an e-mail answer above what it quotes; all of it when nothing is left otherwise."""
    found = _QUOTED.search(text)
    own = text[: found.start()].strip() if found else text.strip()
    return own or text.strip()
