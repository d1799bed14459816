"""Whether a member may enter a triggered campaign again. Pure."""

from collections.abc import Callable, Mapping

from rondo_common.durations import parse_duration
from services.campaigns.bodies import After, CampaignBody
from services.campaigns.model import MemberState, Pending


def may_enter(body: CampaignBody, last: int | None, now: int) -> bool:
    """`last`: the member's last entry (ms), None when there was none. Unlimited unless the campaign says."""
    if body.reentry is None or body.reentry == "always" or last is None:
        return True
    if isinstance(body.reentry, After):
        return now >= last + parse_duration(body.reentry.after)
    return False


def remembers(body: CampaignBody) -> bool:
    """Whether the campaign's rule looks at earlier entries."""
    return body.reentry is not None and body.reentry != "always"


def folded(
    mine: MemberState, other: MemberState, limited: Callable[[str, int], bool]
) -> tuple[dict[str, int], dict[str, Pending]]:
    """Entries and pending triggers of a member that took in another. The newest entry counts. Of a
    campaign that limits re-entry (`limited(campaign, version)`) only the trigger entered first stays."""
    entries = dict(mine.entries)
    for campaign, at in other.entries.items():
        entries[campaign] = max(at, entries.get(campaign, at))
    pending: dict[str, Pending] = {**other.pending, **mine.pending}
    first: dict[str, str] = {}
    for name, p in sorted(pending.items(), key=lambda item: (item[1].entered_at, item[0])):
        if limited(p.campaign, p.version) and first.setdefault(p.campaign, name) != name:
            del pending[name]
    return entries, pending


def changed(before: Mapping[str, Pending], after: Mapping[str, Pending]) -> tuple[list[str], list[str]]:
    """Names of pending triggers that came and that went."""
    return sorted(after.keys() - before.keys()), sorted(before.keys() - after.keys())
