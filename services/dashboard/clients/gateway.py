"""The REST API, with the admin key."""

from typing import Any
from urllib.parse import quote

import httpx
import msgspec

TIMEOUT_S = 3.0
ACT_TIMEOUT_S = 20.0


class Refused(Exception):
    """The gateway said no, or nothing. `status` is its answer's, 503 when there was none; the text is
    for people."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


def path(*parts: str) -> str:
    """A path of the API from its parts, each of which stays one part whatever stands in it."""
    return "".join("/" + quote(p, safe="") for p in parts)


class Gateway:
    """Calls of the API. Every method raises Refused."""

    def __init__(self, url: str, key: str):
        self._url = url.rstrip("/")
        self._http = httpx.AsyncClient(headers={"authorization": f"Bearer {key}"}, timeout=TIMEOUT_S, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def get(self, path: str, **query: str | int | None) -> Any:
        """The JSON answer of a GET; parameters without a value are left out."""
        return msgspec.json.decode((await self._call("GET", path, query)).content)

    async def raw(self, path: str) -> bytes:
        """The bytes of a GET."""
        return (await self._call("GET", path, {})).content

    async def post(self, path: str, body: dict[str, Any], request_id: str = "") -> None:
        """A POST; `request_id` makes a repeat harmless."""
        headers = {"idempotency-key": request_id} if request_id else {}
        await self._call("POST", path, {}, body, headers)

    async def _call(
        self,
        method: str,
        path: str,
        query: dict[str, Any],
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        try:
            answer = await self._http.request(
                method,
                self._url + path,
                params={k: v for k, v in query.items() if v not in (None, "")},
                json=body,
                headers=headers,
                timeout=TIMEOUT_S if body is None else ACT_TIMEOUT_S,
            )
        except httpx.TimeoutException as e:
            raise Refused(503, "the gateway does not answer in time") from e
        except httpx.HTTPError as e:
            raise Refused(503, "the gateway does not answer") from e
        if answer.status_code >= 400:
            raise Refused(answer.status_code, _words(answer))
        return answer


def _words(answer: httpx.Response) -> str:
    try:
        problem = answer.json()
        said = [problem["title"], problem.get("detail"), *(e["detail"] for e in problem.get("errors", ()))]
        return ": ".join(dict.fromkeys(str(s) for s in said if s))
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"the gateway answers {answer.status_code}"
