"""Secrets of webhooks: derived from the master secret, so that none is stored. Pure.

Rotating one is a new `generation` of the same webhook.
"""

import base64
import hmac


def webhook_secret(master: str, workspace: str, webhook: str, generation: int) -> str:
    """whsec_ and 32 bytes in base64, as Standard Webhooks 1.0 writes them."""
    digest = hmac.digest(master.encode(), f"webhook:{workspace}:{webhook}:{generation}".encode(), "sha256")
    return "whsec_" + base64.b64encode(digest).decode()
