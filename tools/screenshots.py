#!/usr/bin/env python3
"""Takes docs/img from a running stack (best after `make demo`): `python -m tools.screenshots`.

The live page and the inbox, at 1280 and 390 px, with Debian's chromium.
"""

import json
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
PAGES = {"dashboard": "/", "inbox": "/inbox"}
WIDTHS = (1280, 390)
SETTLE_MS = 6_000
"""Two rounds of the page's own updates."""


def main() -> None:
    state = json.loads((ROOT / ".rondo" / "state.json").read_text())
    base = state["services"]["dashboard"]["http"]
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-quic"])
        for width in WIDTHS:
            page = browser.new_page(viewport={"width": width, "height": 900})
            for name, path in PAGES.items():
                page.goto(base + path)
                page.wait_for_timeout(SETTLE_MS)
                page.screenshot(path=str(ROOT / "docs" / "img" / f"{name}-{width}.png"), full_page=name == "dashboard")
        browser.close()


if __name__ == "__main__":
    main()
