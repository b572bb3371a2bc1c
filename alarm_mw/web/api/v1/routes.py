"""The routes of our API: its operations, the document that describes them, and the page that shows it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from alarm_mw.web.api.openapi import document
from alarm_mw.web.api.v1.handlers import OPERATIONS
from alarm_mw.web.rendering import show
from alarm_mw.web.security.guards import api, page

_made = functools.cache(lambda: document(OPERATIONS))


async def _openapi(_: Request) -> Response:
    return JSONResponse(_made())


async def _page(request: Request) -> Response:
    schemas = _made()["components"]["schemas"]
    return await show(request, "api.html", active="", operations=list(_operations()), schemas=_shown(schemas))


def _operations() -> Iterator[dict[str, Any]]:
    for path, methods in _made()["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {})
            yield {
                **operation,
                "path": path,
                "method": method.upper(),
                "body": _type(body["application/json"]["schema"]) if body else "",
                "result": _type(operation["responses"]["200"]["content"]["application/json"]["schema"]),
            }


def _shown(schemas: Mapping[str, Any]) -> list[tuple[str, str, list[tuple[str, str, str]]]]:
    """Return each type: its name, what it is, and its fields with their types."""
    return [
        (name, schema.get("description", ""), [(field, _type(each), _about(each)) for field, each in fields.items()])
        for name, schema in sorted(schemas.items())
        if (fields := schema.get("properties", {}))
    ]


def _about(schema: Mapping[str, Any]) -> str:
    return str(schema.get("description", ""))


def _type(schema: Mapping[str, Any]) -> str:
    """Return a schema in words: ``list of Incident``."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    match schema.get("type"):
        case "array":
            return f"list of {_type(schema.get('items') or {})}"
        case "object":
            return f"object of {_type(schema.get('additionalProperties') or {})}"
        case kind:
            return str(kind or (msgspec.json.encode(schema["enum"]).decode() if "enum" in schema else "any"))


ROUTES = [
    *(operation.route() for operation in OPERATIONS),
    api("/api/1/openapi.json", _openapi),
    page("/api", _page),
]
