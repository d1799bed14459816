"""The stack's secrets: made once at the first `rondo up`, kept in .rondo/secrets.json (owner only)."""

import base64
import json
import os
import secrets
from pathlib import Path


def load(folder: Path) -> dict[str, str]:
    """Variables by name (RONDO_SECRET, keys, the sandbox providers' signing secrets), made and stored if
    there are none yet."""
    path = folder / "secrets.json"
    if path.exists():
        found: dict[str, str] = json.loads(path.read_text())
        return found
    made = make()
    fd = os.open(path.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as f:
        json.dump(made, f, indent=1)
    path.with_suffix(".new").replace(path)
    return made


def make() -> dict[str, str]:
    """Fresh secrets. SendGrid signs its events with ECDSA on P-256: the public key as base64 of DER
    SubjectPublicKeyInfo (as SendGrid shows it), the private one as base64 of DER PKCS8."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    return {
        "RONDO_SECRET": secrets.token_hex(32),
        "RONDO_WRITE_KEY": "wk_" + secrets.token_urlsafe(24),
        "RONDO_ADMIN_KEY": "rk_" + secrets.token_urlsafe(24),
        "RONDO_SENDGRID_PRIVATE_KEY": base64.b64encode(private).decode(),
        "RONDO_SENDGRID_PUBLIC_KEY": base64.b64encode(public).decode(),
        "RONDO_TWILIO_TOKEN": secrets.token_hex(16),
        "RONDO_TELEGRAM_TOKEN": f"{secrets.randbelow(9 * 10**8) + 10**8}:{secrets.token_urlsafe(26)}",
        "RONDO_TELEGRAM_SECRET": secrets.token_urlsafe(24),
    }


if __name__ == "__main__":  # for containers: python -m rondo_cli.local.secrets > deploy/env/rondo.env
    print("".join(f"{name}={value}\n" for name, value in make().items()), end="")
