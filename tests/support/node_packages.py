"""npm packages for tests: installed from a committed package-lock.json into the cache folder, once.

folder = installed(Path("tests/conformance/segment_node"))     # holds node_modules and the folder's own files
"""

import hashlib
import shutil
import subprocess
from pathlib import Path

from rondo_cli.local.jars import cache_dir

INSTALL_S = 120.0


class Unavailable(RuntimeError):
    """npm could not install; the text says why."""


def installed(source: Path) -> Path:
    """A folder with `source`'s files and its packages. Unavailable when npm can't have them."""
    files = sorted(p for p in source.iterdir() if p.suffix in (".json", ".cjs"))
    digest = hashlib.sha256(b"".join(p.name.encode() + p.read_bytes() for p in files)).hexdigest()[:16]
    target = cache_dir() / "node" / f"{source.name}-{digest}"
    if (target / "node_modules").is_dir():
        return target
    making = target.with_name(target.name + ".new")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    for path in files:
        shutil.copy(path, making)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(
            command,
            cwd=making,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"npm ci did not end within {INSTALL_S:.0f} s") from None
    if done.returncode:
        raise Unavailable(f"npm ci: {done.stderr[-500:]}")
    shutil.rmtree(target, ignore_errors=True)
    making.rename(target)
    return target
