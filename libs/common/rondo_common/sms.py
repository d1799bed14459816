"""How many segments a text message takes. Pure.

GSM 03.38: 160 characters of the basic alphabet in one message, 153 in each of several; characters
of the extension table count twice. Anything else is sent as UCS-2: 70, or 67 UTF-16 units each.
"""

_BASIC = set(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = set("\f^{}\\[~]|€")


def segments(text: str) -> int:
    """Segments `text` is billed as; an empty text takes one."""
    if all(c in _BASIC or c in _EXTENDED for c in text):
        units = sum(2 if c in _EXTENDED else 1 for c in text)
        single, several = 160, 153
    else:
        units = len(text.encode("utf-16-le")) // 2
        single, several = 70, 67
    return 1 if units <= single else -(-units // several)
