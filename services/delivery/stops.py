"""The stop flags as the effector sees them, per partition: changed only after their commit. Pure."""

from services.delivery.model import Begin, Call, Stop


class Stops:
    """Which campaigns, and which workspaces as a whole, no call may begin for."""

    def __init__(self) -> None:
        self._flags: dict[tuple[int, str, str], str] = {}

    @property
    def any(self) -> bool:
        """Whether there is a flag at all."""
        return bool(self._flags)

    def begin(self, partition: int, task: Begin) -> None:
        """The partition was taken over with these flags."""
        self._flags = {key: state for key, state in self._flags.items() if key[0] != partition}
        self._flags |= {(partition, ws, campaign): state for (ws, campaign), state in task.stops.items()}

    def change(self, partition: int, task: Stop) -> None:
        """One flag was set or lifted."""
        key = (partition, task.workspace, task.campaign)
        if task.state is None:
            self._flags.pop(key, None)
        else:
            self._flags[key] = task.state

    def hold(self, partition: int, call: Call) -> bool:
        """Whether this call may not begin. The workspace's switch leaves transactional messages alone."""
        if (partition, call.workspace, call.campaign) in self._flags:
            return True
        return call.class_ != "transactional" and (partition, call.workspace, "*") in self._flags

    def listed(self) -> list[str]:
        """For people: "<workspace>:<campaign or *>=<state>"."""
        return sorted({f"{ws}:{campaign}={state}" for (_, ws, campaign), state in self._flags.items()})
