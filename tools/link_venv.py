"""Make the checkout importable in the virtual environment this runs in, and put `rondo` beside python.

A .pth file and a script of four lines: what an editable install does, without a build.
"""

import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("libs/common", "libs/cli", "protos", ".")

SCRIPT = """#!{python}
import sys
from rondo_cli.main import run
sys.exit(run())
"""


def link(site: Path, scripts: Path) -> None:
    """Write the .pth file into `site` and the script into `scripts`."""
    (site / "rondo.pth").write_text("".join(f"{(ROOT / folder).resolve()}\n" for folder in FOLDERS))
    command = scripts / "rondo"
    command.write_text(SCRIPT.format(python=sys.executable))
    command.chmod(0o755)


if __name__ == "__main__":
    if sys.prefix == sys.base_prefix:
        sys.exit("run this with the python of a virtual environment")
    link(Path(sysconfig.get_path("purelib")), Path(sys.prefix) / "bin")
