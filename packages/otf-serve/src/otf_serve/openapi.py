"""The API's description as an OpenAPI document, made from its endpoints and the vocabulary."""

from __future__ import annotations

import http
import re
from typing import Any, Dict, List, Sequence, Tuple

import msgspec

from .endpoints import Asked, Denied, Endpoint, File, Problem, Reply
from .parameters import Parameter

_REFERENCE = "#/components/schemas/{name}"
_ABOUT = """The local server of OnTheFly: read sessions, and steer the training that is connected.

Every request needs the token that lies in the file `token` of the OnTheFly home. Events as they
happen come over the WebSocket `/ws/dashboard`, which this document does not describe."""
_DENIALS = {
    401: "The token is missing or wrong.",
    403: "The request names another host, or comes from another origin.",
}


def described(endpoints: Sequence[Endpoint], version: str) -> List[Endpoint]:
    """These endpoints, and one at which all of them are described."""

    async def description(asked: Asked) -> Reply:
        """This document."""
        return Reply(content)

    own = Endpoint("GET", "/api/openapi.json", description, {200: Dict[str, Any]})
    every = [*endpoints, own]
    content = document(every, version)
    return every


def document(endpoints: Sequence[Endpoint], version: str) -> Dict[str, Any]:
    """An OpenAPI 3.1 document."""
    schemas, components = _schemas(endpoints)
    paths: Dict[str, Dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "OnTheFly", "version": version, "description": _ABOUT},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


_Schemas = Dict[Any, Dict[str, Any]]


def _schemas(endpoints: Sequence[Endpoint]) -> Tuple[_Schemas, Dict[str, Any]]:
    """The schema of every type that is sent or received, and what they refer to."""
    bodies = [endpoint.body for endpoint in endpoints if endpoint.body is not None]
    replies = [kind for endpoint in endpoints for kind in endpoint.returns.values()]
    kinds = [kind for kind in [*bodies, *replies, Problem, Denied] if kind is not File]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    return dict(zip(kinds, schemas)), components


def _operation(endpoint: Endpoint, schemas: _Schemas) -> Dict[str, Any]:
    about = re.sub(r"\s+", " ", endpoint.handler.__doc__ or "").strip()
    responses = {
        str(status): {"description": _said(status), "content": _content(kind, schemas)}
        for status, kind in endpoint.returns.items()
    }
    for status in endpoint.problems:
        responses[str(status)] = {
            "description": _said(status),
            "content": _content(Problem, schemas),
        }
    for status, denial in _DENIALS.items():
        responses[str(status)] = {"description": denial, "content": _content(Denied, schemas)}
    operation: Dict[str, Any] = {
        "operationId": endpoint.handler.__name__,
        "summary": about,
        "parameters": [_parameter(parameter) for parameter in endpoint.parameters],
        "responses": responses,
    }
    if endpoint.body is not None:
        content = _content(endpoint.body, schemas)
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameter(parameter: Parameter[Any]) -> Dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.about,
        "required": parameter.place == "path",
        "schema": parameter.schema,
    }


def _said(status: int) -> str:
    return http.HTTPStatus(status).phrase


def _content(kind: Any, schemas: _Schemas) -> Dict[str, Any]:
    if kind is File:
        # Of bytes there is nothing to say (OpenAPI 3.1, "Considerations for File Uploads").
        return {"application/octet-stream": {}}
    return {"application/json": {"schema": schemas[kind]}}
