# SPDX-License-Identifier: MIT
"""Requests made at random from the description of the calls: valid, nearly valid, and wild."""

import json
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sshfs_plugin.options import table
from support import description
from support.clients import ID, OTHER_ID, PODMAN_ID

VOLUMES = tuple(f"volume-{number}" for number in range(12))
"""The names that most requests have."""

NOBODY = "127.0.0.1"
"""A host on which nothing listens at port 1."""
_OPTIONS = tuple(name for name in table.NAMES if table.lookup(name).name not in ("sshcmd", "host", "port"))
_FINGERPRINT = "SHA256:" + "m" * 42 + "A"
_CHARACTERS = (
    string.printable + "äß€\N{ROCKET}\N{RIGHT-TO-LEFT OVERRIDE}\N{LINE SEPARATOR}\N{NO-BREAK SPACE}\0\x7f\x9b"
    "\ud800\udfff\ufffe\ufeff"
)
_TELLING = (
    "",
    " ",
    ".",
    "..",
    "../../etc/passwd",
    "/",
    "%s%n",
    "${HOME}",
    "$(id)",
    "-oProxyCommand=id",
    "a\r\nX: y",
    "<script>",
    "\ud800",
    "\0",
    "null",
    "x" * 300,
    "x" * 5000,
    "0x10",
    "1e9",
    "-1",
    "99999999999999999999",
    "٣",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request, and what it is by the description.

    Attributes:
        call: The call that it is; None if it is none.
        raw: Its bytes.
        closes: Whether it may be left without an answer.
    """

    call: str | None
    raw: bytes
    closes: bool


class Wild:
    """Makes requests, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311 (nothing here is secret)
        # most can be wrong about options; and a Mount is nothing without a volume, or an Unmount without a Mount
        more = ("VolumeDriver.Create",) * 8 + ("VolumeDriver.Mount", "VolumeDriver.Unmount") * 3
        self._calls = (*description.calls(), *more)

    def request(self) -> Request:
        """Make the next request."""
        rng = self._rng
        call: str | None = rng.choice(self._calls)
        body = self._body(str(call))
        content = body if isinstance(body, bytes) else self._written(body)
        method, path = "POST", f"/{call}"
        if rng.random() < 0.04:
            method = rng.choice(("GET", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "PROPFIND"))
            call = None
        elif rng.random() < 0.04:
            path = rng.choice((f"{path}/", path.lower(), path[:-1], "/", f"/v2{path}", f"{path}%00", f"{path}.."))
            call = None
        closes = call == "VolumeDriver.Get" and not _has_name(content)
        headers = [f"Content-Length: {len(content)}", *self._headers()]
        rng.shuffle(headers)
        head = "\r\n".join((f"{method} {path} HTTP/1.{rng.choice('01')}", *headers))
        return Request(call=call, raw=head.encode() + b"\r\n\r\n" + content, closes=closes)

    def _headers(self) -> Sequence[str]:
        possible = (
            "Host: ",
            "Host: plugin",
            "Accept: */*",
            "Accept: application/vnd.docker.plugins.v1.2+json",
            "Content-Type: text/html",
            "Content-Type: application/json; charset=utf-16",
            "Content-Encoding: gzip",
            "Connection: keep-alive",
            "Connection: close, upgrade",
            "Cookie: " + "x" * 4000,
            "X-Forwarded-For: ::1",
            "Range: bytes=0-1",
            "If-None-Match: *",
            "SCRIPT_NAME: /VolumeDriver",
            "Authorization: Basic eA==",
            f"X-Wild: {self._rng.randbytes(8).hex()}",
        )
        chosen = self._rng.sample(possible, self._rng.choice((0, 1, 2, 2, 3, 6)))
        # a newer gunicorn refuses some of them if they come twice
        return tuple({header.partition(":")[0]: header for header in chosen}.values())

    def _body(self, call: str) -> Any:
        """Make a body: most are right but for one thing."""
        rng = self._rng
        known = description.body_schema(call)["properties"]
        body: dict[str, Any] = {key: self._valid(key) for key in known}
        match rng.choice(("valid",) * 6 + ("mutated",) * 5 + ("wild", "other", "lacking", "raw")):
            case "mutated" if body:
                key = rng.choice(list(body))
                body[key] = self._wild_opts() if key == "Opts" and rng.random() < 0.8 else self._anything()
            case "lacking" if body:
                del body[rng.choice(list(body))]
            case "other":
                body[self._text()] = self._anything()
            case "wild":
                return self._anything()
            case "raw":
                return self._raw()
        return body

    def _valid(self, key: str) -> Any:
        if key == "Name":
            return self._rng.choice(VOLUMES)
        if key == "ID":
            return self._rng.choice((ID, OTHER_ID, PODMAN_ID))
        assert key == "Opts"
        return {
            "sshcmd": f"bob@{NOBODY}:/photos",
            "port": "1",
            "check": self._rng.choice(("never", "never", "mount", "create")),
        }

    def _wild_opts(self) -> Any:
        """Make options of the table with values that fit, and with others; only servers on this host are named."""
        rng = self._rng
        opts = self._valid("Opts") if rng.random() < 0.8 else {}
        for _ in range(rng.choice((1, 1, 2, 3, 10))):
            name = rng.choice((*_OPTIONS, *table.REFUSED, *table.IGNORED)) if rng.random() < 0.9 else self._text()
            opts[self._spelled(name)] = self._value() if rng.random() < 0.9 else self._anything()
        if rng.random() < 0.2:
            opts["sshcmd"] = f"{rng.choice(('', self._text()))}@{NOBODY}:{self._text()}"
        return opts | {"port": rng.choice(("1", "1", "1", "0", "65536", "-1", "1x", "\u0661"))}

    def _spelled(self, name: str) -> str:
        rng = self._rng
        return rng.choice((name, name, name, name.upper(), f" {name}", f"{name},{name}", f"ro,{name}", f"{name}="))

    def _value(self) -> str:
        rng = self._rng
        makers: tuple[Callable[[], str], ...] = (
            lambda: rng.choice(("", "yes", "no", "on", "0", "1", "none", "user", "file", "accept-new", "auto")),
            lambda: str(rng.randint(-2, 70000)),
            lambda: rng.choice(("/etc/hostname", "/dev/null", "/proc/self/mem", "~/x", "/", "/nowhere/x", "/dev/zero")),
            lambda: _FINGERPRINT,
            self._text,
            lambda: f"{self._text()},{rng.choice(_OPTIONS)}={self._text()}",
        )
        return rng.choice(makers)()

    def _text(self) -> str:
        rng = self._rng
        if rng.random() < 0.5:
            return rng.choice(_TELLING)
        return "".join(rng.choices(_CHARACTERS, k=rng.choice((1, 3, 20, 200))))

    def _anything(self, depth: int = 0) -> Any:
        rng = self._rng
        leaf: tuple[Callable[[], Any], ...] = (
            self._text,
            lambda: None,
            lambda: rng.choice((True, False)),
            lambda: rng.choice((0, -1, 2**63, 10**400, -(10**4000))),
            lambda: rng.choice((0.5, 1e308, float("inf"), float("nan"))),
        )
        if depth > 3 or rng.random() < 0.6:
            return rng.choice(leaf)()
        if rng.random() < 0.5:
            return [self._anything(depth + 1) for _ in range(rng.choice((0, 1, 5)))]
        return {self._text(): self._anything(depth + 1) for _ in range(rng.choice((0, 1, 5)))}

    def _written(self, body: Any) -> bytes:
        """Write a body as JSON, in one of the ways that there are, or with one key twice."""
        rng = self._rng
        text = json.dumps(body, ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, None, 1)))
        if isinstance(body, dict) and body and rng.random() < 0.05:
            key = rng.choice(list(body))
            text = f"{text[:-1]}, {json.dumps(key)}: {json.dumps(self._anything())}}}"
        if rng.random() < 0.05:
            return text.encode(rng.choice(("utf-16", "utf-32-be", "utf-8-sig")), "surrogatepass")
        return text.encode("utf-8", "surrogatepass") + rng.choice((b"", b"\n"))

    def _raw(self) -> bytes:
        """Make a body that is no JSON, or hardly."""
        rng = self._rng
        depth = rng.choice((10, 900, 100_000))
        return rng.choice(
            (
                b"",
                b"\0",
                b"null",
                b"[]",
                b'"x"',
                b"{",
                b'{"Name": "',
                b'{"Name": "volume-1\\ud800"}',
                b'{"Name": "\xff\xfe"}',
                b'{"Name": "volume-1\0"}',
                b"{'Name': 'volume-1'}",
                b'{"Name": "volume-1"}{"Name": "volume-2"}',
                b'{"Name": ' + b"9" * 5000 + b"}",
                b"[" * depth,
                b'{"Name":' * depth,
                b'{"Name": "volume-1", "Opts": ' + b"[" * depth + b"]" * depth + b"}",
                b'{"Name": "volume-1", "Opts": ' + b'{"":' * depth + b"0" + b"}" * depth + b"}",
                rng.randbytes(rng.choice((1, 100, 10_000))),
                b" " * 100_000,
            )
        )


def _has_name(content: bytes) -> bool:
    """Tell whether a body names a volume, or is none at all, which gets an error."""
    try:
        body = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        return True
    return not isinstance(body, dict) or "Name" in body
