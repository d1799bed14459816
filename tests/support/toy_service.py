"""A stand-in for any service: health on its HTTP port, nothing else. For tests of the supervisor.

RONDO_TOY_DIR is a folder of orders: `<name>.fail` makes it exit at once, `<name>.unready` keeps /readyz
at 503, `<name>.stubborn` makes it ignore SIGTERM, `<name>.child` makes it start a child of its own (whose
pid it writes to `<name>.child.pid`).
"""

import json
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAME, SLOT = os.environ["RONDO_SERVICE"], os.environ["RONDO_SLOT"]
ORDERS = Path(sys.argv[1])


def ordered(what: str) -> bool:
    return (ORDERS / f"{NAME}.{what}").exists()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        good = self.path != "/readyz" or not ordered("unready")
        body = json.dumps({"ready": good, "detail": "" if good else "told so"}).encode()
        if self.path == "/env":
            body = json.dumps({k: v for k, v in os.environ.items() if k.startswith("RONDO_")}).encode()
        if self.path == "/metrics":
            body = (ORDERS / f"{NAME}.metrics").read_bytes() if ordered("metrics") else b""
        self.send_response(200 if good else 503)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    print(f"toy {NAME}.{SLOT} begins", flush=True)
    if ordered("fail"):
        sys.exit("told to fail")
    signal.signal(signal.SIGTERM, signal.SIG_IGN if ordered("stubborn") else lambda *_: sys.exit(0))
    if ordered("child"):
        child = subprocess.Popen(["sleep", "300"])
        (ORDERS / f"{NAME}.child.pid").write_text(str(child.pid))
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["RONDO_HTTP_PORT"])), Handler).serve_forever()
