"""Parts of the warehouse that the engine put aside because they are damaged.

A disk that takes nothing can leave a part without its end, and the engine may keep it as if it were whole: each
question that meets it fails from then on (seen with chDB 26.9 while no file could grow). Opening the
folder anew puts such parts aside. Most are the result of a merge, whose sources are still there. Where they
are not, rows are missing in the middle, below the position: that table is emptied and fills itself from its
topic, as all of this is a view of the log.
"""

import os
from collections.abc import Callable

from rondo_common import telemetry

log = telemetry.logger(__name__)

_BROKEN = """SELECT table, name, path, min_block_number, max_block_number FROM system.detached_parts
WHERE database = '{db}' AND reason LIKE 'broken%' FORMAT TabSeparatedRaw"""
_ROWS = """SELECT sum(rows) FROM system.parts WHERE active AND database = '{db}' AND table = '{table}'
AND min_block_number >= {first} AND max_block_number <= {last}"""


def repair(run: Callable[[str], bytes], database: str) -> list[str]:
    """Make up for damaged parts; the tables that were emptied."""
    emptied = []
    for line in run(_BROKEN.format(db=database)).decode().splitlines():
        table, name, path, first, last = line.split("\t")
        there = int(run(_ROWS.format(db=database, table=table, first=first, last=last)))
        if there == _counted(path):
            log.warning("a damaged part was put aside, its rows are there", table=table, part=name, rows=there)
        elif table not in emptied:
            log.warning("a damaged part was put aside, the table fills again from its topic", table=table, part=name)
            run(f"TRUNCATE TABLE {database}.{table}")
            emptied.append(table)
        run(f"ALTER TABLE {database}.{table} DROP DETACHED PART '{name}' SETTINGS allow_drop_detached = 1")
    return emptied


def _counted(path: str) -> int:
    """Rows of a part by its own count; -1 when that is damaged too."""
    try:
        with open(os.path.join(path, "count.txt")) as f:
            return int(f.read())
    except (OSError, ValueError):
        return -1
