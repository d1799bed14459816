"""Finding the member a call is about."""

from typing import Any

from starlette.requests import Request

from rondo_common.clock import from_iso
from rondo_common.problems import Problem, invalid
from rondo_protos.profiles.v1 import profiles_pb2

ID_TYPES = ("id", "email", "phone", "anonymous_id", "member_id", "telegram_chat_id")


def choice_of(request: Request, name: str, choices: tuple[str, ...]) -> str | None:
    """A parameter that is one of some words, None when absent; Problem 422 for another."""
    given = request.query_params.get(name)
    if given is not None and given not in choices:
        where = [invalid(f"/{name}", f"unknown_{name}", "one of " + ", ".join(choices))]
        raise Problem(422, "invalid-request", f"The {name} is not valid", errors=where)
    return given


def id_type_of(request: Request) -> str:
    """The id_type parameter, `id` when absent; Problem 422 for an unknown one."""
    return choice_of(request, "id_type", ID_TYPES) or "id"


async def find(request: Request, workspace: str, id: str, id_type: str | None = None) -> Any:
    """The profiles service's Member behind an id; Problem 404 when nobody has it."""
    profiles = request.app.state.clients.profiles
    wanted = profiles_pb2.GetRequest(workspace=workspace, id=id, id_type=id_type or id_type_of(request))
    return (await profiles.Get(wanted)).member


def origins(member: Any) -> list[str]:
    """The member's id and those merged into it: all that recorded things may carry."""
    return [member.member_id, *member.merged_from]


def limit_of(request: Request, most: int = 500) -> int:
    """The limit parameter, 100 when absent; Problem 422 outside 1 to `most`."""
    text = request.query_params.get("limit", "100")
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise Problem(
            422, "invalid-request", "The limit is not valid", errors=[invalid("/limit", "out_of_range", f"1 to {most}")]
        )
    return int(text)


def instant_of(request: Request, name: str = "at") -> int | None:
    """A time parameter in ms, None when absent; Problem 422 when it can't be read. A plus sign that came
    unescaped (and so as a blank) is taken as one."""
    text = request.query_params.get(name)
    try:
        return None if text is None else from_iso(text.replace(" ", "+"))
    except ValueError as e:
        where = [invalid(f"/{name}", "invalid_time", str(e))]
        raise Problem(422, "invalid-request", "The time is not valid", str(e), where) from e
