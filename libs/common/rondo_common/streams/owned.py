"""What the loop holds of each partition, and the clients it talks to."""

from collections import deque
from typing import Any, NamedTuple

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from rondo_common.stage import Assigned, Input
from rondo_common.streams.commit import Transactions
from rondo_common.streams.deadletters import Limit
from rondo_common.streams.effector import Effector
from rondo_common.streams.idle import Idle
from rondo_common.streams.marks import Marks
from rondo_common.streams.overlay import Memory
from rondo_common.streams.restore import Restorer
from rondo_common.streams.store import Store


class Clients(NamedTuple):
    """What the loop talks to."""

    consumer: Consumer
    transactions: Transactions
    admin: AdminClient
    store: Store
    restorer: Restorer
    idle: Idle
    clock: Any
    marks: Marks
    effector: Effector | None = None


class Owned:
    """A partition this worker owns. `position` is None while it is restored."""

    def __init__(self, partition: int):
        self.partition = partition
        self.unreadable: set[str] = set()
        """States that could not be read: first the view is taken to be wrong, then the log."""
        self.memory = Memory(self.unreadable)
        self.position: int | None = None
        self.pending: deque[Input] = deque((Assigned(partition),))
        """Inputs that are no records, until the batch that held them has committed."""
        self.placed = False
        """Whether the consumer stands where the restored states end."""
        self.timers_after = 0.0
        self.limit = Limit()
        self.sweep_turn = 0
