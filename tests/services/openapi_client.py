"""A client of our API that checks each answer against the OpenAPI document, and a use of all operations."""

from __future__ import annotations

import json as json_module
import re
from collections.abc import Callable
from typing import Any

import jsonschema
from waiting import wait_until

#: Makes a request with a method, a URL and a body, and returns the status and the body of the answer.
Send = Callable[[str, str, bytes], tuple[int, bytes]]


class Api:
    """Asks operations, and checks each answer against the document."""

    def __init__(self, send: Send) -> None:
        self._send = send
        status, text = send("GET", "/api/1/openapi.json", b"")
        assert status == 200, text
        self.document: dict[str, Any] = json_module.loads(text)
        #: The operations that were asked for with success.
        self.used: set[tuple[str, str]] = set()

    @property
    def operations(self) -> set[tuple[str, str]]:
        """All of them, by method and path."""
        return {(method.upper(), path) for path, methods in self.document["paths"].items() for method in methods}

    def __call__(self, method: str, url: str, status: int = 200, json: object = None) -> Any:
        body = b"" if json is None else json_module.dumps(json).encode()
        got, text = self._send(method, url, body)
        assert got == status, text
        path = self._path(method, url.partition("?")[0])
        operation = self.document["paths"][path][method.lower()]
        schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
        value = json_module.loads(text)
        jsonschema.validate(value, {**schema, "components": self.document["components"]})
        if status == 200:
            self.used.add((method, path))
        return value

    def _path(self, method: str, url: str) -> str:
        paths = [path for path, methods in self.document["paths"].items() if method.lower() in methods]
        fitting = [path for path in paths if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), url)]
        return url if url in fitting else str(fitting[0])


def use_every_operation(api: Api) -> None:
    """Use all of them, with CONFIGURATION, on a payment that has failed and a full disk, as the token ``robot``."""
    incidents = api("GET", "/api/1/incidents?filter=severity=critical")
    (payment,) = incidents
    assert (payment["rule"], payment["message"]) == ("payments", "payment 42 failed: card declined")
    name = payment["id"]
    assert api("POST", "/api/1/incidents/ack", json={"ids": [name, "x"], "comment": "on it"}) == {
        "done": [name],
        "unknown": ["x"],
    }
    one = api("GET", f"/api/1/incidents/{name}")
    assert (one["incident"]["acknowledged_by"], one["incident"]["marks"]) == ("robot", ["acknowledged"])
    assert [event["kind"] for event in one["events"]][-1] == "acknowledged"
    api("POST", "/api/1/incidents/unack", json={"ids": [name]})
    silence = api("POST", "/api/1/silences", json={"targets": ['rule="disk"'], "seconds": 60, "comment": "moving"})
    assert (silence["author"], silence["state"]) == ("robot", "active")
    assert [each["id"] for each in api("GET", "/api/1/silences")] == [silence["id"]]
    (ended,) = api("POST", "/api/1/silences/expire", json={"targets": [silence["id"]]})
    assert (ended["id"], ended["state"]) == (silence["id"], "expired")
    assert [each["state"] for each in api("GET", "/api/1/silences?all=true")] == ["expired"]
    api("POST", "/api/1/incidents/resolve", json={"ids": [name]})
    assert [each["id"] for each in api("GET", "/api/1/incidents?all=true") if each["state"] == "resolved"] == [name]
    assert {event["incident"] for event in api("GET", f"/api/1/history?incident={name}")} == {name}
    rules = {rule["id"]: rule for rule in api("GET", "/api/1/rules")}
    assert (rules["disk"]["matches"], rules["disk"]["open"]) == (1, 1)
    assert api("GET", "/api/1/ledger")["imbalances"] == []
    lanes = {lane["alarm"]: lane for lane in api("GET", "/api/1/delivery")}
    assert lanes["sms"]["action"] == "cmd"
    api("POST", "/api/1/delivery/mail/test")
    api("POST", "/api/1/delivery/sms/retry")
    wait_until(lambda: api("GET", "/api/1/letters?alarm=sms")["count"])
    letters = api("GET", "/api/1/letters?alarm=sms&alarm=mail&limit=1")
    assert len(letters["letters"]) == 1
    assert api("POST", "/api/1/letters/retry", json={"ids": [letters["letters"][0]["id"]]})["count"] == 1
    wait_until(lambda: api("GET", "/api/1/letters?alarm=sms")["count"])
    assert api("POST", "/api/1/letters/drop", json={"alarms": ["sms"]})["count"] >= 1
    assert api("POST", "/ping/backup?every=2h&grace=5m") == {"name": "backup"}
    api("POST", "/ping/job-1/fail?message=disk%20full")
    (failed,) = api("GET", "/api/1/incidents?filter=job-1")
    assert failed["message"] == "heartbeat 'job-1' failed: disk full"
    api("POST", "/ping/job-1?last=true")
    assert api.used == api.operations
