# SPDX-License-Identifier: MIT
"""The written description of the calls, and what is wrong with an answer by it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from support.clients import Reply

DESCRIPTION: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs/openapi.json").read_text())

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
_HOLDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "const": lambda value, limit: bool(value == limit),
    "enum": lambda value, limit: value in limit,
    "pattern": lambda value, limit: bool(re.search(limit, value)),
    "minLength": lambda value, limit: bool(len(value) >= limit),
    "minimum": lambda value, limit: bool(value >= limit),
}
_ELSEWHERE = {"description", "type", "required", "additionalProperties"}


def resolved(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a part of the description, or what it refers to."""
    while "$ref" in part:
        target: Any = DESCRIPTION
        for key in part["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        part = target
    return part


def calls() -> dict[str, Mapping[str, Any]]:
    """Return the calls that are described, by their name."""
    return {path.removeprefix("/"): item["post"] for path, item in DESCRIPTION["paths"].items()}


def body_schema(call: str) -> Mapping[str, Any]:
    """Return what the body of a call is."""
    (media,) = calls()[call]["requestBody"]["content"].values()
    schema: Mapping[str, Any] = media["schema"]
    return schema


def answers(call: str | None) -> dict[int, Mapping[str, Any]]:
    """Return the answers that a call may get, by their status; those of what is no call for None."""
    if call is None:
        return {404: resolved(DESCRIPTION["components"]["responses"]["NoSuchCall"])}
    return {int(status): resolved(answer) for status, answer in calls()[call]["responses"].items()}


def faults(schema: Mapping[str, Any], value: Any, where: str = "it") -> Iterator[str]:
    """Yield in what a value differs from a schema, of which every keyword must be known here."""
    schema = resolved(schema)
    if "type" in schema:
        names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        if isinstance(value, bool) or not isinstance(value, tuple(kind for name in names for kind in _TYPES[name])):
            yield f"{where} is {value!r}, not of type {names}"
            return
    for keyword, limit in schema.items():
        if keyword == "items":
            for number, item in enumerate(value):
                yield from faults(limit, item, f"{where}[{number}]")
        elif keyword == "properties":
            yield from _faults_of_object(schema, value, where)
        elif keyword not in _ELSEWHERE and not _HOLDS[keyword](value, limit):
            yield f"{where} is {value!r}, and not as {keyword} says, {limit!r}"


def _faults_of_object(schema: Mapping[str, Any], value: Mapping[str, Any], where: str) -> Iterator[str]:
    known: Mapping[str, Any] = schema["properties"]
    yield from (f"{where} lacks {key}" for key in schema.get("required", ()) if key not in value)
    for key, item in value.items():
        if key in known:
            yield from faults(known[key], item, f"{where}.{key}")
        elif schema.get("additionalProperties") is False:
            yield f"{where} has {key}, which is not described"


def faults_of_answer(call: str | None, reply: Reply) -> list[str]:
    """Return in what a reply differs from what is described for a call, or for what is no call."""
    possible = answers(call)
    if reply.status not in possible:
        return [f"the status {reply.status} is not described: {reply.text!r}"]
    ((content_type, media),) = possible[reply.status]["content"].items()
    if reply.headers.get("content-type") != content_type:
        return [f"it is {reply.headers.get('content-type')}"]
    try:
        body = reply.body
    except ValueError:
        return [f"it is no JSON: {reply.text!r}"]
    return list(faults(media["schema"], body))
