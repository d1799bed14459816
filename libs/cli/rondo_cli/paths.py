"""Where things are: the code, and the folder of the local stack."""

import os
from pathlib import Path

CODE = Path(__file__).resolve().parents[3]
"""Root of the checkout: the folder that holds services/."""

FOLDER = ".rondo"


def rondo_dir(cwd: Path | None = None) -> Path:
    """The stack's folder: RONDO_DIR, else the nearest .rondo upwards from the working folder, else one
    at the checkout's root when inside it, else one here. It need not exist."""
    if given := os.environ.get("RONDO_DIR"):
        return Path(given).absolute()
    here = (cwd or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        if (folder / FOLDER / "state.json").is_file():
            return folder / FOLDER
    if here == CODE or CODE in here.parents:
        return CODE / FOLDER
    return here / FOLDER


def python_path() -> str:
    """PYTHONPATH under which `python -m services` and all libraries are found."""
    return os.pathsep.join(str(CODE / p) for p in ("", "libs/common", "libs/cli", "protos"))
