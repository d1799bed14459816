"""What campaigns asks of another service: segmentation, for audiences."""

from typing import Any, Protocol

import msgspec

from rondo_common.problems import Problem


class Segments(Protocol):
    """Segments as campaigns needs them. Calls raise Problem; 503 when segmentation does not answer."""

    async def exists(self, workspace: str, id: str) -> bool:
        """Whether there is such a segment."""
        ...

    async def put(self, workspace: str, id: str, name: str, rule: dict[str, Any], actor: str) -> None:
        """Make the segment `id` of a rule, or its next version. Problem 422 for a wrong rule, with
        pointers that begin with /rule."""
        ...


class GrpcSegments:
    """Segments over gRPC. `messages` is the generated module of segmentation.proto."""

    def __init__(self, stub: Any, messages: Any):
        self._stub = stub
        self._messages = messages

    async def exists(self, workspace: str, id: str) -> bool:
        try:
            await self._stub.Get(self._messages.GetRequest(workspace=workspace, id=id))
        except Problem as p:
            if p.status == 404:
                return False
            raise
        return True

    async def put(self, workspace: str, id: str, name: str, rule: dict[str, Any], actor: str) -> None:
        body = msgspec.json.encode({"name": name, "rule": rule})
        await self._stub.Put(self._messages.PutRequest(workspace=workspace, id=id, body_json=body, actor=actor))
