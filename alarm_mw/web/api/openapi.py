"""The OpenAPI document (3.1) of our API, made from its operations and their types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import structs

from alarm_mw.model.version import VERSION
from alarm_mw.web.api.operation import Nothing, Operation, is_list
from alarm_mw.web.security.identity import Role

_REFERENCE = "#/components/schemas/{name}"

#: What an operation may answer beside its result.
_REFUSALS = {
    "400": "The request is wrong; the text says what was expected.",
    "401": "A token or a session is needed.",
    "403": "The token has not the role for it.",
    "404": "There is no such thing.",
    "503": "It could not be done in time, or the outbox cannot be read.",
}


class Refusal(msgspec.Struct, frozen=True):
    """Why something was not done."""

    error: str


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the document."""
    types = [Refusal, *(kind for each in operations for kind in (each.result, each.body))]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    by_type = {repr(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "alarm_mw",
            "version": VERSION,
            "description": "Incidents, silences, delivery and the ledger of one master. Times are in seconds.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "`[[web.tokens]]`"}},
        },
        "security": [{"token": []}],
    }


def _operation(operation: Operation, by_type: dict[str, Any]) -> dict[str, Any]:
    summary, _, more = operation.text.partition("\n\n")
    role = "Needs the role `act`." if operation.role is Role.ACT else "Needs the role `read`."
    made: dict[str, Any] = {
        "operationId": operation.name,
        "summary": summary,
        "description": " ".join(filter(None, [" ".join(more.split()), role])),
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation)],
        "responses": {
            "200": {"description": "Done.", "content": _json(by_type[repr(operation.result)])},
            **{
                status: {"description": text, "content": _json(by_type[repr(Refusal)])}
                for status, text in _REFUSALS.items()
            },
        },
    }
    if operation.body is not Nothing:
        made["requestBody"] = {"required": True, "content": _json(by_type[repr(operation.body)])}
    return made


def _json(schema: object) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _path_parameters(path: str) -> Iterator[dict[str, Any]]:
    for part in path.split("/"):
        if part.startswith("{"):
            yield {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    schema = msgspec.json.schema(operation.query)["$defs"][operation.query.__name__]
    for field in structs.fields(operation.query):
        shown = dict(schema["properties"][field.encode_name])
        yield {
            "name": field.encode_name,
            "in": "query",
            "required": field.required,
            "description": shown.pop("description", ""),
            "schema": shown,
            **({"style": "form", "explode": True} if is_list(field.type) else {}),
        }
