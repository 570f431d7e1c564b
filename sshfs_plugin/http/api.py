# SPDX-License-Identifier: MIT
"""The volume plugin protocol over HTTP, and one call of our own: decode, call the driver, encode.

No other module knows status codes, content types or ``{"Err": ...}``. Every error is sent as status 500 with a JSON
body, the one form that both clients understand: Podman ignores an ``Err`` in a 200, and Docker shows any other body as
it is (docs/facts.md).
"""

import json
import logging
import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import flask  # noqa: TID251 (this is the place)
from gunicorn.http.errors import NoMoreData, ParseException
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from sshfs_plugin import context, errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.discovery.client import OWN
from sshfs_plugin.driver.counters import LIMITS, Durations
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.driver.locks import Slots
from sshfs_plugin.driver.values import Caller, State
from sshfs_plugin.events import Event
from sshfs_plugin.holders import Client
from sshfs_plugin.host import journal, uptime
from sshfs_plugin.http import sockets
from sshfs_plugin.volume import LONGEST_NAME, Unresolved, Unusable, Volume, VolumeName

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
PODMAN_SECONDS = 4.5
"""Podman waits five seconds for every call."""
DOCKER_LONG_SECONDS, DOCKER_SECONDS = 100.0, 50.0
"""Docker waits 120 seconds for Create and Mount, else 60; it would not unmount what it was told too late."""

_OF_A_BROWSER = ("Origin", "Sec-Fetch-Site")
"""Headers that no web page can leave out: over TCP each page that a user of this host visits could call the plugin."""

LONGEST_BODY = 1024 * 1024
"""Bytes."""
INTERNAL_ERROR = "internal error of the sshfs plugin"

Answer = dict[str, Any]


class _Written(str):
    """A part of an answer that is JSON already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, decoded.

    Attributes:
        body: The JSON object, empty if none was sent.
        caller: Who sent it.
        deadline: When the caller stops waiting, less a margin.
        connection: The client's socket, None outside of gunicorn.
    """

    body: Mapping[str, Any]
    caller: Caller
    deadline: Deadline
    connection: socket.socket | None

    @property
    def name(self) -> str:
        """The volume's name; it may be empty, as a fault of Docker makes it in some Gets."""
        return self._text("Name")

    @property
    def mount_id(self) -> str:
        """The mount ID."""
        return self._text("ID")

    @property
    def opts(self) -> dict[str, str]:
        """The options; absent, null and ``{}`` are the same."""
        opts = self.body.get("Opts") or {}
        if not isinstance(opts, dict) or not all(isinstance(value, str) for value in opts.values()):
            raise errors.InvalidRequest("'Opts' is not an object of strings", "quote all values of options")
        return opts

    def _text(self, key: str) -> str:
        text = self.body.get(key, "")
        if not isinstance(text, str):
            raise errors.InvalidRequest(f"'{key}' is not a string", "send it as one")
        return text

    def require_body(self) -> None:
        """Raise InvalidRequest without a body: Docker's broken retry sends a request again, without it (moby#39331)."""
        if not self.body:
            raise errors.InvalidRequest(
                "the request came without its body, as Docker's retries do", "run the command again"
            )

    def hang_up(self) -> None:
        """Close the connection without a reply: Docker then tries again, while an error makes it forget the volume."""
        if self.connection is not None:
            self.connection.shutdown(socket.SHUT_RDWR)


Verb = Callable[[Driver, Call], Answer]


def _activate(driver: Driver, call: Call) -> Answer:
    driver.activate(call.caller)
    return {"Implements": ["VolumeDriver"]}


def _capabilities(_driver: Driver, _call: Call) -> Answer:
    return {"Capabilities": {"Scope": "local"}}


def _create(driver: Driver, call: Call) -> Answer:
    call.require_body()
    driver.create(call.name, call.opts, call.deadline)
    return {}


def _mount(driver: Driver, call: Call) -> Answer:
    call.require_body()
    try:
        mountpoint = driver.mount(call.name, call.mount_id, call.caller, call.deadline)
    except errors.PluginError as error:
        error.volume = call.name[:LONGEST_NAME]  # Docker says "error while mounting volume ''" (docs/facts.md)
        raise
    if mountpoint:  # else nothing was counted, and what would be undone could be the hold of another caller
        _after_reply(
            lambda: driver.confirm(call.name, call.mount_id),
            otherwise=lambda: driver.unanswered(call.name, call.mount_id),
        )
    return {"Mountpoint": str(mountpoint or "")}


def _unmount(driver: Driver, call: Call) -> Answer:
    call.require_body()
    driver.unmount(call.name, call.mount_id, call.deadline)
    return {}


def _remove(driver: Driver, call: Call) -> Answer:
    call.require_body()
    driver.remove(call.name, call.deadline)
    return {}


def _get(driver: Driver, call: Call) -> Answer:
    if "Name" not in call.body:
        call.hang_up()
        return {}
    return {"Volume": _volume(driver.get(call.name))}


class _Listing:
    """List, which writes in JSON only what has changed since the last List: that is two thirds of its time."""

    def __init__(self) -> None:
        self._last: Mapping[VolumeName, tuple[State, str]] = {}

    def __call__(self, driver: Driver, _call: Call) -> Answer:
        last, listed = self._last, {}
        for state in driver.list_volumes():
            name = state.record.name
            before = last.get(name)
            listed[name] = before if before and before[0] == state else (state, json.dumps(_volume(state)))
        self._last = listed
        return {"Volumes": _Written(f"[{', '.join(text for _, text in listed.values())}]")}


def _path(driver: Driver, call: Call) -> Answer:
    return {"Mountpoint": str(driver.get(call.name).mountpoint or "")}


def _counters(driver: Driver, _call: Call) -> Answer:
    counted = driver.counters
    return {
        "Counters": {
            "startedAt": _time(counted.started_at),
            "calls": [{"verb": verb, "count": count} for verb, count in counted.calls.copy().items()],
            "failures": [{**kind._asdict(), "count": count} for kind, count in counted.failures.copy().items()],
            "mounts": _durations(counted.mounts),
            "checks": [{"check": check, **_durations(durations)} for check, durations in counted.checks.items()],
            "unmounts": counted.unmounts,
            "reconnects": [{"volume": name, "count": count} for name, count in driver.states.reconnects().items()],
        }
    }


def _durations(durations: Durations) -> Answer:
    within = [{"seconds": limit, "count": count} for limit, count in zip(LIMITS, durations.within, strict=True)]
    return {"count": durations.count, "seconds": round(durations.seconds, 6), "within": within}


def _volume(state: State) -> Answer:
    """Return a volume as List and Get have it: Docker passes over what it does not need in a List (docs/facts.md)."""
    volume = {"Name": state.record.name, "Mountpoint": str(state.mountpoint or ""), "Status": _status(state)}
    if not isinstance(state.record, Unusable):
        volume["CreatedAt"] = _time(state.record.created_at)
    return volume


def _status(state: State) -> Answer:
    """Return the ``Status`` that ``docker volume inspect`` shows; nothing of it is secret."""
    status: Answer = {"state": state.condition.value, "since": _time(state.since), "holders": state.holders}
    if not isinstance(state.record, Unusable):
        status |= _described(state.record)
    when = _time(state.last_error_at) if state.last_error_at else ""
    known = {"unit": state.unit, "lastError": state.last_error, "lastErrorAt": when}
    return status | {key: text for key, text in known.items() if text}


def _described(volume: Volume | Unresolved) -> Answer:
    """Describe a volume to whoever may talk to Docker, who need not know what the file of its remote says."""
    if isinstance(volume, Unresolved) or volume.remote_name:
        named = f"{volume.remote_name}:{volume.given.get('directory', '')}"
        return {"remote": volume.given.get("sshcmd", named)}
    return {
        "remote": f"{volume.remote.source} port {volume.remote.port}",
        "access": volume.access.summary,
        "hostKey": volume.pinned_host_key or volume.host_key_check.value,
    }


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """How a verb is served.

    Attributes:
        verb: The function that carries it out.
        seconds: How long Docker waits for it, less a margin.
        slow: Whether it may wait for servers, and so needs a slot for slow calls.
        changes: Whether it may change the number of volumes or mounts.
        counted: Whether calls of it are, unless our own client makes them.
        failed: The kind of event that its failure is, if it is one.
    """

    verb: Verb
    seconds: float = DOCKER_SECONDS
    slow: bool = False
    changes: bool = False
    counted: bool = True
    failed: Event | None = None


ROUTES: Mapping[str, _Route] = {
    "Plugin.Activate": _Route(verb=_activate),
    "VolumeDriver.Capabilities": _Route(verb=_capabilities),
    "VolumeDriver.Create": _Route(
        verb=_create, seconds=DOCKER_LONG_SECONDS, slow=True, changes=True, failed=Event.CREATE_FAILED
    ),
    "VolumeDriver.Mount": _Route(
        verb=_mount, seconds=DOCKER_LONG_SECONDS, slow=True, changes=True, failed=Event.MOUNT_FAILED
    ),
    # not slow: it drops its hold before it waits for anything, and that must not depend on a slot
    "VolumeDriver.Unmount": _Route(verb=_unmount, changes=True),
    "VolumeDriver.Remove": _Route(verb=_remove, slow=True, changes=True, failed=Event.REMOVE_FAILED),
    "VolumeDriver.Get": _Route(verb=_get),
    "VolumeDriver.List": _Route(verb=_Listing()),
    "VolumeDriver.Path": _Route(verb=_path),
    # for docker-volume-sshfs metrics
    "Service.Counters": _Route(verb=_counters, counted=False),
}

HOST = "docker-volume-sshfs"
Wsgi: TypeAlias = Callable[[dict[str, Any], Any], Any]


def create_app(driver: Driver, *, slow_slots: Slots, tell: Callable[[str], None]) -> flask.Flask:
    """Make the Flask application.

    Args:
        driver: The driver, which carries out the verbs.
        slow_slots: The slots for slow calls, fewer than there are threads, so that quick calls always find one.
        tell: Is called with a line about the volumes after each call that may have changed them.
    """
    app = flask.Flask(__name__, static_folder=None)
    app.wsgi_app = _whatever_the_host(app.wsgi_app)  # type: ignore[assignment]  # Flask's own way to wrap it

    def serve(path: str) -> flask.Response:
        route, verb = ROUTES[path], path.rpartition(".")[2]
        if route.counted and OWN not in flask.request.headers:
            driver.counters.called(verb)
        with context.about(VERB=verb), _errors_noted(driver, verb, route.failed):
            call = _decode(route)
            subject = {"VERB": verb, "VOLUME": call.name, "MOUNT_ID": call.mount_id}
        with (
            context.about(**subject),
            _errors_noted(driver, verb, route.failed),
            slow_slots.taken(call.deadline, errors.PluginBusy(journal.own_log())) if route.slow else nullcontext(),
        ):
            try:
                answer = route.verb(driver, call)
            finally:
                if route.changes:
                    flask.after_this_request(lambda response: _when_closed(response, lambda: tell(_summary(driver))))
        return _encode({**answer, "Err": ""}, 200)

    for path in ROUTES:
        # else Flask would answer OPTIONS, and not in JSON
        app.add_url_rule(
            f"/{path}", path, serve, methods=["POST"], defaults={"path": path}, provide_automatic_options=False
        )
    app.register_error_handler(errors.PluginError, lambda error: _encode({"Err": str(error)}, 500))
    app.register_error_handler(HTTPException, _encode_http_error)
    app.register_error_handler(Exception, _encode_internal_error)
    return app


def _whatever_the_host(served: Wsgi) -> Wsgi:
    """Let a Host header, which means nothing here, be anything: Flask refuses some, and some paths in place of one."""

    def serve(environ: dict[str, Any], start_response: Any) -> Any:
        environ["HTTP_HOST"] = HOST
        return served(environ, start_response)

    return serve


def _decode(route: _Route) -> Call:
    """Decode a request of either client; the content type, Host and body may be missing."""
    headers, environ = flask.request.headers, flask.request.environ
    if any(header in headers for header in _OF_A_BROWSER):
        raise errors.InvalidRequest("the request comes from a web page", "no web page may call the plugin")
    body = _body()
    try:
        decoded = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict):
        raise errors.InvalidRequest("the request is not a JSON object", "see the volume plugin protocol")
    client = Client.DOCKER if "Accept" in headers else Client.PODMAN
    connection = environ.get("gunicorn.socket")
    return Call(
        body=decoded,
        caller=Caller(client=client, process=_process_of(connection), has_gone=lambda: _has_been_closed(connection)),
        deadline=Deadline.after(route.seconds if client is Client.DOCKER else PODMAN_SECONDS),
        connection=connection,
    )


def _body() -> bytes:
    """Read the body; one that is longer than a client ever sends is refused."""
    try:
        body = flask.request.stream.read(LONGEST_BODY + 1)
    except (OSError, ParseException, ValueError) as error:  # the last is gunicorn 20.1's for a chunk of no size
        reason = "it breaks off" if isinstance(error, NoMoreData) else str(error) or "it breaks off"
        raise errors.InvalidRequest(
            f"the body of the request can't be read, {reason}"[: errors.LONGEST_QUOTE],
            "send it at once and with its Content-Length",
        ) from error
    if len(body) > LONGEST_BODY:
        raise errors.InvalidRequest("the body of the request is longer than 1 MiB", "give a volume fewer options")
    return body


def _process_of(connection: socket.socket | None) -> str:
    """Return the identity of the process at the other end of a unix socket; empty if it is not known."""
    if connection is None or connection.family != socket.AF_UNIX:
        return ""
    process, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uptime.identity(process)


def _has_been_closed(connection: socket.socket | None) -> bool:
    """Tell whether the client has closed its connection; what it may have sent is not read."""
    if connection is None:
        return False
    if not sockets.is_readable(connection):  # else recv would block for up to CLIENT_SECONDS
        return False
    try:
        # over TLS a client that waits for its reply sends nothing but the end
        return isinstance(connection, ssl.SSLSocket) or connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True


def _after_reply(act: Callable[[], None], *, otherwise: Callable[[], None]) -> None:
    """Call ``act`` once this request's reply has been written, or ``otherwise`` if it can't be.

    The reply is an iterator of blocks: a server asks for the next block when it has written the one before (PEP 3333).
    Both functions run with the journal fields of this request.
    """
    subject, outcome = context.subject(), otherwise

    def blocks(content: bytes) -> Iterator[bytes]:
        nonlocal outcome
        yield content
        outcome = act

    def conclude() -> None:
        with context.about(**subject):
            outcome()

    def follow(response: flask.Response) -> flask.Response:
        response.response = blocks(response.get_data())
        return _when_closed(response, conclude)

    flask.after_this_request(follow)


def _when_closed(response: flask.Response, act: Callable[[], None]) -> flask.Response:
    response.call_on_close(act)
    return response


@contextmanager
def _errors_noted(driver: Driver, verb: str, event: Event | None) -> Iterator[None]:
    """Log an error with which a call ends, as an event of this kind, and count it."""
    try:
        yield
    except errors.VolumeNotFound as error:  # Docker asks for volumes that do not exist all day long
        log.debug("%s", error)
        raise
    except errors.PluginError as error:
        log.error("%s", error, extra=event.fields if event else None)
        driver.counters.failed(verb, error)
        raise
    except Exception as error:  # it is logged where it is answered
        driver.counters.failed(verb, error)
        raise


def _summary(driver: Driver) -> str:
    volumes, mounted = driver.states.counts()
    return f"{volumes} volume{'s' if volumes != 1 else ''}, {mounted} mounted"


def _encode(answer: Answer, status: int) -> flask.Response:
    parts = (f'"{key}": {part if isinstance(part, _Written) else json.dumps(part)}' for key, part in answer.items())
    return flask.Response("{" + ", ".join(parts) + "}\n", status=status, content_type=CONTENT_TYPE)


def _encode_http_error(error: HTTPException) -> flask.Response:
    if isinstance(error, NotFound | MethodNotAllowed):
        return _encode({"Err": f"{flask.request.method} {flask.request.path} is no call of this plugin"}, 404)
    return _encode({"Err": f"the request is not as HTTP has it, {error.description}"}, 500)


def _encode_internal_error(error: Exception) -> flask.Response:
    log.exception("internal error", exc_info=error)
    return _encode({"Err": internal_error()}, 500)


def internal_error() -> str:
    """Return what a client is told of a mistake of ours, whose traceback is logged."""
    return f"{INTERNAL_ERROR}: {journal.own_log()} tells more"


def raw_error(sentence: str) -> bytes:
    """Return a whole HTTP reply with an error, for a request that gunicorn could not parse."""
    reply = _encode({"Err": sentence}, 500)
    reply.headers["Connection"] = "close"
    head = f"HTTP/1.1 {reply.status}\r\n{reply.headers}"
    return head.encode() + reply.get_data()
