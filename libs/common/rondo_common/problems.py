"""Problem details (RFC 9457): the one shape in which anything in Rondo says no.

A `Problem` is an exception and a value. Handlers raise it; gRPC carries it in trailing metadata
(`rondo_common.rpc`), HTTP answers it as application/problem+json (`rondo_common.web`).

    raise Problem(422, "invalid-rule", "The segment rule is not valid", detail="Unknown operator 'greater'",
                  errors=[invalid("/rule/and/0/trait/operator", "unknown_operator", "one of eq, ne, gt, ...")])
"""

from typing import Any

import msgspec


class Problem(Exception):
    """One refusal. `type` is a word such as `invalid-rule` (written as `/problems/invalid-rule`) or a
    whole path; `errors` are {pointer, code, detail} with JSON pointers into what was sent;
    `headers` go on the HTTP answer, e.g. {"Retry-After": "2"}."""

    def __init__(
        self,
        status: int,
        type: str,
        title: str,
        detail: str = "",
        errors: list[dict[str, str]] | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(f"{status} {type}: {detail or title}")
        self.status = status
        self.type = type if type.startswith("/") or type == "about:blank" else f"/problems/{type}"
        self.title = title
        self.detail = detail
        self.errors = list(errors or [])
        self.headers = dict(headers or {})

    def body(self, instance: str = "", trace_id: str = "") -> dict[str, Any]:
        """The members of the problem document; empty ones are left out."""
        out: dict[str, Any] = {"type": self.type, "title": self.title, "status": self.status}
        if self.detail:
            out["detail"] = self.detail
        if instance:
            out["instance"] = instance
        if self.errors:
            out["errors"] = self.errors
        if trace_id:
            out["trace_id"] = trace_id
        return out

    def encode(self) -> bytes:
        """As bytes for the gRPC trailer; `decode` is the inverse."""
        return msgspec.json.encode({**self.body(), "headers": self.headers})

    @classmethod
    def decode(cls, data: bytes) -> "Problem":
        """The Problem that `encode` wrote. msgspec.DecodeError or KeyError when it is none."""
        d = msgspec.json.decode(data)
        return cls(d["status"], d["type"], d["title"], d.get("detail", ""), d.get("errors"), d.get("headers"))


def invalid(pointer: str, code: str, detail: str) -> dict[str, str]:
    """One entry of `errors`: where (JSON pointer), what (a code), and in words."""
    return {"pointer": pointer, "code": code, "detail": detail}


def not_found(what: str, id: str) -> Problem:
    """404 for `what` (a noun) called `id`; the same for what belongs to another workspace."""
    return Problem(404, "not-found", f"There is no such {what}", f"No {what} {id!r} in this workspace")


def conflict(type: str, title: str, detail: str = "") -> Problem:
    """409: the thing is in a state, or something is running, that forbids this now."""
    return Problem(409, type, title, detail)


def unavailable(what: str, detail: str = "", retry_after_s: int = 2) -> Problem:
    """503 with Retry-After: `what` can't answer now, asking again later helps."""
    return Problem(
        503, "unavailable", f"{what} is not available", detail, headers={"Retry-After": str(max(1, retry_after_s))}
    )


def not_implemented(what: str) -> Problem:
    """501: part of the contract that this version does not serve yet."""
    return Problem(501, "not-implemented", f"{what} is not served yet")


def pointer_of(path: str, prefix: str = "") -> str:
    """JSON pointer of a msgspec error path: `$.batch[3].type` becomes `/batch/3/type`."""
    out = prefix
    for part in path.removeprefix("$").replace("[", ".").replace("]", "").split("."):
        if part and part != "...":
            out += "/" + part.replace("~", "~0").replace("/", "~1")
    return out


def from_validation(error: Exception, prefix: str = "", title: str = "The request is not valid") -> Problem:
    """422 out of a msgspec.ValidationError, with the pointer of the mistake. `prefix` is the pointer
    of the part that was being read."""
    text = str(error)
    what, _, path = text.rpartition(" - at `")
    if not what:
        what, path = text, "$"
    pointer = pointer_of(path.rstrip("`"), prefix)
    if "unknown field" in what:
        field = what.rpartition("unknown field `")[2].rstrip("`")
        return Problem(422, "invalid-request", title, what, [invalid(f"{pointer}/{field}", "unknown_field", what)])
    if "missing required field" in what:
        field = what.rpartition("missing required field `")[2].rstrip("`")
        return Problem(422, "invalid-request", title, what, [invalid(f"{pointer}/{field}", "required", what)])
    return Problem(422, "invalid-request", title, what, [invalid(pointer, "invalid", what)])
