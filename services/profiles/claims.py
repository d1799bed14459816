"""Who holds an address: statements of members about it, and whose counts. Pure."""

from services.profiles.model import Claim

MAX_CLAIMS = 50
"""Members remembered for one address; beyond, released and then old claims are forgotten."""


def stated(claim: Claim | None, member_id: str, at: int, held: bool) -> Claim | None:
    """The claims after a member said at `at` that the address is theirs, or no longer is; None when that
    changes nothing. By member the later statement counts, on a tie the release."""
    members = claim.members if claim is not None else {}
    have = members.get(member_id)
    if have is not None and (have[0], not have[1]) >= (at, not held):
        return None
    members = {**members, member_id: (at, held)}
    if len(members) > MAX_CLAIMS:
        members = dict(sorted(members.items(), key=lambda m: (not m[1][1], -m[1][0], m[0]))[:MAX_CLAIMS])
    return Claim(members)


def holders(claim: Claim | None) -> list[str]:
    """The members who hold the address, the newest claim first, on a tie the smaller id first."""
    if claim is None:
        return []
    return [member for _, member in sorted((-at, m) for m, (at, holds) in claim.members.items() if holds)]


def holder(claim: Claim | None) -> str | None:
    """The member the address leads to: the one with the newest claim; None when nobody holds it."""
    return next(iter(holders(claim)), None)
