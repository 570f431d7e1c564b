# SPDX-License-Identifier: MIT
"""What systemd gets to see: log lines with fields, status and readiness."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshfs_plugin import context
from sshfs_plugin.host import journal

log = logging.getLogger("sshfs_plugin.anything")

pytestmark = pytest.mark.usefixtures("own_logging")


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Give the socket at which systemd would listen."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield listening


def test_where_there_is_no_journal_trouble_goes_to_stderr_and_all_else_to_stdout_with_verb_and_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(journal, "JOURNAL", tmp_path / "nowhere")
    journal.set_up()
    log.info("ready")
    with context.about(VERB="Mount", VOLUME="photos", MOUNT_ID="4f61"):
        log.warning("slow: %s", "nas")
    with context.about(VERB="List"):
        log.error("oops")
    said = capsys.readouterr()
    assert said.out == "ready\n"
    assert said.err == "Mount photos: slow: nas\nList: oops\n"


def test_where_there_is_a_journal_lines_carry_fields_to_filter_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "JOURNAL", tmp_path)
    journal.set_up()
    (handler,) = logging.getLogger().handlers
    sent: list[dict[str, object]] = []
    monkeypatch.setattr(handler, "send", lambda text, /, **fields: sent.append({"MESSAGE": text, **fields}))
    with context.about(VERB="Mount", VOLUME="photos", MOUNT_ID="4f61"):
        log.error("slow")
    wanted = {
        "MESSAGE": "Mount photos: slow",
        "SYSLOG_IDENTIFIER": "docker-volume-sshfs",
        "PRIORITY": "3",
        "VERB": "Mount",
        "VOLUME": "photos",
        "MOUNT_ID": "4f61",
    }
    assert wanted.items() <= sent[0].items()


def test_names_of_any_length_are_cut_in_lines_and_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(journal, "JOURNAL", tmp_path / "nowhere")
    journal.set_up()
    with context.about(VERB="Mount", VOLUME="a" * 1_000_000, MOUNT_ID="b" * 1_000_000):
        log.error("no such volume")
    assert capsys.readouterr().err == f"Mount {'a' * 300}: no such volume\n"


HOSTILE = "photos\udcff\n\x1b[2Jforged"
TAMED = "photos???[2Jforged"


def log_what_is_hostile() -> None:
    """Log what a client or a server may have sent, in all the ways in which it gets into a line."""
    with context.about(VERB="Mount", VOLUME=HOSTILE, MOUNT_ID=HOSTILE):
        log.error("not a name: %s", HOSTILE)
        log.error(HOSTILE)
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            log.exception("internal error")


def test_what_is_logged_is_printable_where_there_is_no_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(journal, "JOURNAL", tmp_path / "nowhere")
    journal.set_up()
    log_what_is_hostile()
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == ""
    assert lines[:3] == [
        f"Mount {TAMED}: not a name: {TAMED}",
        f"Mount {TAMED}: {TAMED}",
        f"Mount {TAMED}: internal error",
    ]
    assert lines[3] == "Traceback (most recent call last):"
    assert "    raise ValueError(HOSTILE)" in lines
    assert [line for line in lines if not line.isprintable()] == []


def test_what_is_logged_is_printable_in_the_journal_and_so_are_its_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(journal, "JOURNAL", tmp_path)
    sent: list[tuple[str | bytes, ...]] = []
    monkeypatch.setattr("systemd.journal.sendv", lambda *fields: sent.append(fields))
    journal.set_up()
    log_what_is_hostile()
    assert capsys.readouterr().err == "", "the handler tells of its own failures there"
    fields = [dict(str(field).split("=", 1) for field in line) for line in sent]
    assert [said["MESSAGE"].splitlines()[0] for said in fields] == [
        f"Mount {TAMED}: not a name: {TAMED}",
        f"Mount {TAMED}: {TAMED}",
        f"Mount {TAMED}: internal error",
    ]
    for said in fields:
        assert (said["VOLUME"], said["MOUNT_ID"]) == (TAMED, TAMED)
        for name, text in said.items():
            assert all(line.isprintable() for line in text.split("\n")), name


@pytest.mark.parametrize(("debug", "level"), [("", logging.INFO), ("1", logging.DEBUG)])
def test_details_are_logged_only_when_asked_for(monkeypatch: pytest.MonkeyPatch, debug: str, level: int) -> None:
    monkeypatch.setenv("SSHFS_PLUGIN_DEBUG", debug)
    journal.set_up()
    assert logging.getLogger().level == level


def test_set_up_again_does_not_log_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(journal, "JOURNAL", tmp_path / "nowhere")
    journal.set_up()
    journal.set_up()
    log.info("once")
    assert capsys.readouterr().out == "once\n"


def test_status_and_readiness_reach_systemd(manager: socket.socket) -> None:
    journal.status("3 volumes, 1 mounted")
    journal.ready()
    assert [manager.recv(100), manager.recv(100)] == [b"STATUS=3 volumes, 1 mounted", b"READY=1"]


def test_status_that_nobody_takes_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    journal.status("3 volumes, 1 mounted")
