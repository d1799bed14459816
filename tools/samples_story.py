"""A small, fixed story told to a running stack, in which every kind of record is written at least once."""

import time
from collections.abc import Callable
from typing import Any

import httpx

AT = "2026-01-01T09:00:00Z"
_CONTENT = {
    "default_locale": "en",
    "email": {
        "from": "Shop <hi@example.com>",
        "subject": "Hi {{ member.firstName }}",
        "mjml": "<mjml><mj-body><mj-section><mj-column><mj-text>Dear {{ member.firstName }} "
        "<a href='https://shop.example/offers'>offers</a> <a href='{{ links.unsubscribe }}'>out</a></mj-text>"
        "</mj-column></mj-section></mj-body></mjml>",
    },
    "sms": {"text": "Hi {{ member.firstName }}"},
    "messaging": {"text": "Hi {{ member.firstName }}"},
}
_CAMPAIGN = {"template": "hello", "channels": ["email", "sms", "messaging"], "channel_rule": "all"}
_NIGHT = [{"days": ["mo", "tu", "we", "th", "fr", "sa", "su"], "from": "03:00", "to": "03:01"}]


class Story:
    """`state` is the state file of a fresh stack. It happens in the stack's own workspace: what comes in by
    telephone belongs to that one."""

    def __init__(self, state: dict[str, Any]):
        services, keys = state["services"], state["keys"]
        bearer = {"Authorization": f"Bearer {keys['admin']}"}
        self.api = httpx.Client(base_url=services["gateway"]["http"], headers=bearer, timeout=60)
        self.door = httpx.Client(base_url=services["ingestion"]["http"], auth=(keys["write"], ""), timeout=60)

    def tell(self) -> None:
        """The whole story; TimeoutError where it does not go on."""
        self._people()
        self._definitions()
        self._campaigns()
        self._answers()
        self._merge()

    def _send(self, *events: dict[str, Any]) -> None:
        self.door.post("/v1/batch", json={"batch": list(events)}).raise_for_status()

    def _put(self, path: str, body: Any) -> None:
        self.api.put(path, json=body).raise_for_status()

    def _post(self, path: str, body: Any = None) -> Any:
        return self.api.post(path, json=body).raise_for_status().json()

    def _people(self) -> None:
        for user in ("ann", "bob", "carl"):
            traits = {
                "email": f"{user}{'+hardbounce' if user == 'carl' else ''}@example.com",
                "phone": {"ann": "+33612345677", "bob": "+33612345678", "carl": "+33612345679"}[user],
                "telegram_chat_id": {"ann": "991", "bob": "992", "carl": "993"}[user],
                "firstName": user.capitalize(), "timezone": "Europe/Paris", "plan": "gold",
            }  # fmt: skip
            self._send(_call("identify", user, f"{user}-1", traits=traits))
            self._send(*(_consent(user, channel) for channel in ("email", "sms", "messaging")))
        self._send(
            _call("track", "ann", "ann-2", event="Order Completed", properties={"order_id": "o1", "total": 31.5}),
            _call("page", "ann", "ann-3", name="Home", properties={"url": "https://shop.example"}),
            _call("group", "ann", "ann-4", groupId="g1", traits={"plan": "team"}),
            _call("track", "ann", "ann-5", timestamp="no time", event="Bad"),
        )
        until(lambda: self.api.get("/v1/members/carl").is_success, "the members")
        self._put("/v1/members/ann/preferences", {"tempo": {"news": "daily"}, "channels": ["sms", "email"]})

    def _definitions(self) -> None:
        self._put("/v1/segments/gold", {"rule": {"trait": {"field": "plan", "operator": "eq", "value": "gold"}}})
        self._put("/v1/templates/hello", _CONTENT)
        self._put("/v1/policies/quiet_hours/night", {"channels": ["sms"], "windows": _NIGHT})
        self._put("/v1/policies/budget/weekly", {"limit": 50, "per": "P7D"})
        self._post("/v1/webhooks", {"url": "http://127.0.0.1:1/nobody", "types": ["message.*"]})
        until(lambda: self.api.get("/v1/segments/gold").json().get("status") == "live", "the segment")

    def _campaigns(self) -> None:
        common = {"class": "marketing", "topic": "offers", **_CAMPAIGN}
        self._put("/v1/campaigns/wide", {"type": "broadcast", "audience": {"segment": "gold"}, **common})
        trigger = {"event": "Cart Abandoned", "delay": "PT1S"}
        self._put("/v1/campaigns/cart", {"type": "triggered", "trigger": trigger, **common})
        self._put(
            "/v1/campaigns/alert",
            {"type": "triggered", "class": "transactional", "trigger": {"api": True}, **_CAMPAIGN},
        )
        for campaign in ("cart", "alert"):
            self._post(f"/v1/campaigns/{campaign}/start")
        run = self._post("/v1/campaigns/wide/start")["run_id"]
        self._send(_call("track", "ann", "ann-6", event="Cart Abandoned", properties={"total": 20}))
        self._post("/v1/campaigns/alert/triggers", {"ids": ["ann", "bob"], "data": {"code": "X1"}})
        self._post("/v1/send/email", {"template": "hello", "to": {"id": "bob"}})
        until(lambda: self.api.get(f"/v1/runs/{run}").json()["status"] == "finished", "the broadcast")

    def _answers(self) -> None:
        """Clicks, an unsubscribe, a bounce; bob asks a question, which is answered."""
        mails = until(lambda: [m for m in self._inbox("email") if m["campaign"] and m["links"]], "mails")
        for action in ("open", "click", "unsubscribe"):
            self._post(f"/v1/inbox/messages/{mails[0]['id']}/{action}", {})
        texts = until(lambda: [m for m in self._inbox("sms") if m["to"] == "+33612345678"], "a text to bob")
        self._post(f"/v1/inbox/messages/{texts[0]['id']}/reply", {"text": "When does it open?"})
        open_ones = until(lambda: self.api.get("/v1/conversations").json()["data"], "the conversation")
        self._post(f"/v1/conversations/{open_ones[0]['id']}/reply", {"text": "At nine."})
        self._post(f"/v1/conversations/{open_ones[0]['id']}/close")

    def _inbox(self, channel: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get("/v1/inbox/messages", params={"channel": channel}).json()["data"]
        return found

    def _merge(self) -> None:
        """bob turns out to be ann's former self: her state moves."""
        self._send(_call("alias", "ann", "ann-7", previousId="bob"))
        until(lambda: _merged(self.api), "the merge")


def _merged(api: httpx.Client) -> bool:
    return bool(api.get("/v1/members/ann").json().get("merged_from")) or bool(
        api.get("/v1/members/bob").json().get("merged_from")
    )


def _call(kind: str, user: str, message_id: str, **body: Any) -> dict[str, Any]:
    return {"type": kind, "userId": user, "messageId": message_id, "timestamp": AT, **body}


def _consent(user: str, channel: str) -> dict[str, Any]:
    properties = {"channel": channel, "topic": "offers", "state": "granted", "source": "form", "text_version": "1"}
    return _call("track", user, f"{user}-{channel}", event="Consent Changed", properties=properties)


def until(ask: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """The first true answer; TimeoutError naming `what`."""
    deadline = time.monotonic() + seconds
    while not (found := ask()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not there after {seconds:.0f} s")
        time.sleep(0.2)
    return found
