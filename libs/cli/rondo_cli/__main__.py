"""`python -m rondo_cli` = `rondo`."""

import sys

from rondo_cli.main import run

sys.exit(run())
