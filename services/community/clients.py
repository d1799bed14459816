"""Asking profiles who an address belongs to."""

from typing import Any

from rondo_common import rpc
from rondo_common.records import Inbound
from rondo_protos.profiles.v1 import profiles_pb2
from rondo_protos.profiles.v1.profiles_pb2_grpc import ProfilesServiceStub


class Profiles:
    """The profiles service, as far as community needs it."""

    def __init__(self, address: str):
        self._channel = rpc.channel(address, "profiles")
        self._stub: Any = ProfilesServiceStub(self._channel)

    async def member_of(self, workspace: str, inbound: Inbound) -> str | None:
        """The member who has the address an inbound message came from. Problem 503 when nobody knows now."""
        request = profiles_pb2.LookupRequest(workspace=workspace, ids=[inbound.address_id], id_type="address_id")
        found = (await self._stub.Lookup(request)).found
        return found[0].member_id if found else None

    async def close(self) -> None:
        await self._channel.close()
