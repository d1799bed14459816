"""Stock Faust beside Faust inside its fences, under the same kills."""

from tests.stress import servers
from tests.stress.fences.duel import HEADING, duel
from tests.stress.lab import Lab
from tests.stress.registry import Outcome, case


@case("50", "stock Faust beside ours: concurrency 8, two workers each, kill -9", least=4_000, alone=True)
def fences(lab: Lab, n: int) -> Outcome:
    """Ours may repeat (at least once, by contract), stock may not lose nothing: then the fences are not needed
    any more, or the run shows nothing."""
    folder = lab.folder / "fences"
    (folder / "kafka").mkdir(parents=True)
    kafka, where = servers.start_kafka(folder / "kafka")
    try:
        stock, safe = duel(where.bootstrap, folder, n)
    finally:
        kafka.stop()
    out = Outcome(n, lost=safe.lost, figure=f"stock lost {stock.lost}, ours {safe.lost}")
    out.must(not safe.waiting, f"ours: {safe.waiting} events are still not done")
    out.must(stock.lost, "stock Faust lost nothing: is the fence still needed?")
    out.notes += [HEADING, stock.line(), safe.line()]
    return out
