"""Which of two members wins. Pure.

One total order, so no circle of pointers can form (STREAMS 17): minted from a user id beats minted
from an anonymous id, then the smaller id. What a member was minted from follows from its id alone
(the hash covers the kind), so all partitions agree.
"""

from services.profiles.model import USER


def beats(member: str, minted: str, other: str, other_minted: str) -> bool:
    """Whether `member` wins over `other`. False when they are the same."""
    return (minted != USER, member) < (other_minted != USER, other)
