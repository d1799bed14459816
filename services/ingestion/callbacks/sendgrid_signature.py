"""SendGrid's signed webhooks: ECDSA P-256 with SHA-256 over timestamp + raw body.

The two are joined without a separator, so ("16000000001", "[]") has the signature of ("1600000000",
"1[]"): the timestamp must be exactly ten digits and the caller says what its body begins with. The
signature must be canonical base64, so that no other text stands for it. There is no check of age: ids
come from the provider's event ids, so a replay changes nothing.
"""

import base64
import binascii
import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"

_TEN_DIGITS = re.compile(r"[0-9]{10}")


class Verifier:
    """Checks signatures with one public key (base64 of DER SubjectPublicKeyInfo, as SendGrid shows it).
    Without a key, or with one that can't be read, nothing is valid."""

    def __init__(self, public_key: str):
        self._key: ec.EllipticCurvePublicKey | None = None
        if public_key:
            try:
                key = load_der_public_key(base64.b64decode(public_key, validate=True))
            except (ValueError, binascii.Error) as e:
                raise ValueError("RONDO_SENDGRID_PUBLIC_KEY is not base64 of a DER public key") from e
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise ValueError("RONDO_SENDGRID_PUBLIC_KEY is not an elliptic curve key")
            self._key = key

    def valid(self, signature: str, timestamp: str, body: bytes, begins: bytes) -> bool:
        """Whether `body`, which must begin with `begins`, was signed. Never raises."""
        if self._key is None or not body.startswith(begins) or not _TEN_DIGITS.fullmatch(timestamp):
            return False
        try:
            der = base64.b64decode(signature, validate=True)
            if base64.b64encode(der).decode() != signature:
                return False
            self._key.verify(der, timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError, binascii.Error):
            return False
        return True
