# SPDX-License-Identifier: MIT
"""An ssh-agent that is asked for its keys: a real one, and everything that may be in its place."""

import base64
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.agents import agent, tell
from support.ssh_keys import public_key, write_key

from sshfs_plugin import errors
from sshfs_plugin.ssh import agent as agents
from sshfs_plugin.ssh.agent import Agent


@pytest.fixture
def place() -> Iterator[Path]:
    """Give the path of a socket."""
    # pytest's directories have names too long for a socket, and may be below /tmp
    with tempfile.TemporaryDirectory(prefix="agent-", dir="/dev/shm") as directory:
        yield Path(directory) / "socket"


@contextmanager
def answering(place: Path, answer: bytes | None) -> Iterator[None]:
    """Let something else listen, which gives one answer to everything, or none."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        kept = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    kept.append(connection)
                    connection.recv(1024)
                    if answer is not None:
                        connection.sendall(answer)
                        connection.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


def refusal(place: Path) -> str:
    with pytest.raises(errors.AgentUnusable) as refused:
        Agent(place).keys()
    beginning = f"cannot use the ssh-agent at {place}, "
    assert str(refused.value).startswith(beginning)
    return str(refused.value).removeprefix(beginning)


def test_keys_are_those_that_ssh_add_lists(tmp_path: Path) -> None:
    keys = [write_key(tmp_path / form, form) for form in ("ed25519", "rsa")]
    with agent(*keys) as place:
        held = Agent(place).keys()
    assert [base64.b64encode(key).decode() for key in held] == [public_key(key).read_text().split()[1] for key in keys]


def test_agent_without_a_key_says_how_to_add_one() -> None:
    with agent() as place:
        assert refusal(place) == (
            f"it holds no key: SSH_AUTH_SOCK={place} ssh-add KEY adds one; an agent that is locked shows none"
        )


def test_agent_that_is_locked_shows_no_key(tmp_path: Path) -> None:
    with agent(write_key(tmp_path / "key", "ed25519")) as place:
        tell(place, "-x")
        assert refusal(place).startswith("it holds no key")


def test_missing_socket_is_named(place: Path) -> None:
    assert refusal(place) == ("it does not exist: does the agent run, and is 'IdentityAgent' its socket on this host?")


def test_missing_socket_below_tmp_is_not_seen_by_the_service() -> None:
    assert refusal(Path("/tmp/ssh-X/agent.1")) == (  # noqa: S108 (as ssh-agent does)
        "it does not exist, or is below /tmp, where the service can't see it: move it elsewhere"
    )


def test_what_is_no_socket_is_not_asked(place: Path) -> None:
    place.touch()
    assert refusal(place) == "it is not a socket: name what SSH_AUTH_SOCK is for the agent"


def test_socket_whose_path_is_too_long_for_a_client_says_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = place.with_name("x" * 100)
    directory.mkdir()
    monkeypatch.chdir(directory)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        said = refusal(directory / "socket")
    assert said == "AF_UNIX path too long: it must be the socket of an agent that root runs"


def test_socket_at_which_nobody_listens_any_more_says_so(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place))
    assert refusal(place) == "nobody listens there: start it again, with ssh-agent -a and this path"


@pytest.mark.parametrize("backlog", ["asked", "full"])
def test_agent_that_hangs_is_given_up(place: Path, monkeypatch: pytest.MonkeyPatch, backlog: str) -> None:
    monkeypatch.setattr(agents, "ANSWER_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(place))
        listener.listen(0)
        if backlog == "full":
            first.connect(str(place))
        assert refusal(place) == "it did not answer within 0 seconds: does it wait for a person, or hang?"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0\0",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff\x0c",
        b"\0\0\0\x05\x0c\0\0\0\x01",
        b"\0\0\0\x09\x0c\0\0\0\x01\xff\xff\xff\xff",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
    ],
)
def test_what_is_no_agent_is_refused(place: Path, answer: bytes) -> None:
    with answering(place, answer):
        assert refusal(place) == "it does not answer as an ssh-agent does: is that the socket of one?"


def test_agent_that_fails_is_told_of(place: Path) -> None:
    with answering(place, b"\0\0\0\x01\x05"):
        assert refusal(place) == "it refuses to name its keys: is it locked, or does it ask a person (ssh-add -c)?"


def test_agent_that_does_not_sign_is_told_of(place: Path) -> None:
    with answering(place, b"\0\0\0\x01\x05"), pytest.raises(errors.AgentUnusable, match="it refuses to sign: is it"):
        Agent(place).sign(b"key", b"data", 0)
