"""Where a worker begins to read, from what the states and the group say."""

import pytest
from confluent_kafka import KafkaException, TopicPartition

from rondo_common.streams.assignment import HINT_S, starts_of
from rondo_common.streams.commit import Fatal

A, B = ("a", 0), ("b", 0)


class Group:
    """A consumer whose group has committed these offsets; `held`: the broker holds the answer back."""

    def __init__(self, said: dict[tuple[str, int], int], held: bool = False):
        self.said, self.held = said, held
        self.asked: list[tuple[int, float]] = []

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        self.asked.append((len(places), timeout))
        if self.held and len(places) > 1:
            raise KafkaException("timed out")
        return [TopicPartition(p.topic, p.partition, self.said.get((p.topic, p.partition), -1001)) for p in places]


def test_the_states_tell_and_the_group_may_only_be_ahead_of_them():
    wanted = {A: (100, 0), B: (50, 0)}
    assert starts_of(Group({A: 130, B: 20}), wanted) == {A: 130, B: 50}, "passed over since; forgotten by the group"
    assert starts_of(Group({}), wanted) == {A: 100, B: 50}


def test_what_the_states_tell_waits_for_nobody():
    group = Group({A: 130}, held=True)
    assert starts_of(group, {A: (100, 0), B: (50, 0)}) == {A: 100, B: 50}
    assert group.asked == [(2, HINT_S)]


def test_where_no_state_tells_the_group_is_asked_until_it_answers():
    group = Group({A: 7, B: 60}, held=True)
    assert starts_of(group, {A: (None, 0), B: (50, 0)}) == {A: 7, B: 50}
    assert [n for n, _ in group.asked] == [2, 1]
    assert starts_of(Group({}), {A: (None, 3)}) == {A: 3}, "nothing was ever processed"


@pytest.mark.parametrize(("restored", "committed"), [(5, -1001), (None, 5), (5, 6)])
def test_records_that_were_deleted_unread_end_the_worker(restored, committed):
    with pytest.raises(Fatal, match="were deleted"):
        starts_of(Group({A: committed}), {A: (restored, 10)})
    assert starts_of(Group({A: 12}), {A: (5, 10)}) == {A: 12}, "they were passed over"
