"""The provider as a process: `python -m tests.stress.provider <folder> <late answers: seconds>`.

Writes its ports to <folder>/ports.json once it listens, and each call to <folder>/calls.jsonl.
"""

import asyncio
import json
import sys
from pathlib import Path

from tests.stress.provider import smtp
from tests.stress.provider.http import Http
from tests.stress.provider.ledger import Ledger


async def main(folder: Path, late_s: float) -> None:
    ledger = Ledger(folder / "calls.jsonl")
    mail = await smtp.serve(ledger, late_s)
    http = await Http(ledger, late_s).serve()
    ports = {"smtp": mail.sockets[0].getsockname()[1], "http": http.sockets[0].getsockname()[1]}
    part = folder / "ports.part"
    part.write_text(json.dumps(ports))
    part.rename(folder / "ports.json")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
