# SPDX-License-Identifier: MIT
"""The processes that read files: how many there are, and what happens when one ends or hangs."""

import errno
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.waiting import LIMIT_SECONDS, Background, await_that

from sshfs_plugin.host import command, file_reader
from sshfs_plugin.host import readers as host_readers
from sshfs_plugin.host.readers import FEW, Readers

Process = subprocess.Popen[bytes]


@pytest.fixture
def reader_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Give a way to run another program: the true one with one text in place of another."""
    original = Path(file_reader.__file__).read_text()

    def change(text: str, by: str) -> None:
        assert text in original
        (tmp_path / "reader.py").write_text(original.replace(text, by))
        monkeypatch.setattr(file_reader, "__file__", str(tmp_path / "reader.py"))

    return change


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("content")
    return path


def content(readers: Readers, path: Path, seconds: float = LIMIT_SECONDS) -> bytes:
    error, _, _, read = readers.ask(path, 1000, seconds)
    assert not error
    return read


def test_one_process_answers_all_who_ask_one_after_the_other(started: list[Process], file: Path) -> None:
    readers = Readers()
    assert [content(readers, file) for _ in range(20)] == [b"content"] * 20
    assert readers.ask(file / "none", 0, LIMIT_SECONDS)[0] == errno.ENOTDIR
    assert readers.ask(Path("no\0path"), 0, LIMIT_SECONDS)[0] == errno.EINVAL
    file.write_text("another")
    assert content(readers, file) == b"another"
    assert len(started) == 1


def test_a_few_processes_answer_many_threads(started: list[Process], tmp_path: Path, in_background: Background) -> None:
    readers, paths = Readers(), [tmp_path / f"{number}" for number in range(24)]
    for path in paths:
        path.write_text(path.name * 10_000)
    calls = [in_background(readers.ask, path, 1 << 20, LIMIT_SECONDS) for path in paths * 10]
    assert [call.result()[3].decode() for call in calls] == [path.name * 10_000 for path in paths] * 10
    ended = [process for process in started if process.poll() is not None]
    assert len(started) - len(ended) <= FEW


def test_what_is_no_regular_file_is_not_opened(started: list[Process], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        assert content(Readers(), path) == b""


def test_a_process_that_was_killed_is_replaced(started: list[Process], file: Path) -> None:
    readers = Readers()
    for _ in range(3):
        assert content(readers, file) == b"content"
        started[-1].kill()
    assert len(started) == 3


def test_a_process_that_nobody_asks_ends_and_is_no_zombie(
    started: list[Process], file: Path, reader_changed: Callable[[str, str], None]
) -> None:
    reader_changed("IDLE_SECONDS = 10", "IDLE_SECONDS = 0")
    readers = Readers()
    for _ in range(3):
        assert content(readers, file) == b"content"
        await_that(lambda: has_gone(started[-1].pid), lambda: "it is there still")
    assert len(started) == 3


def test_a_process_waits_for_its_first_request_however_long_that_takes_on_a_busy_host(
    started: list[Process], file: Path, reader_changed: Callable[[str, str], None]
) -> None:
    reader_changed("IDLE_SECONDS = 10", "IDLE_SECONDS = 0")
    reader = host_readers._Reader()
    with pytest.raises(subprocess.TimeoutExpired):
        started[-1].wait(0.3)
    assert reader.ask(file, 1000, LIMIT_SECONDS)[3] == b"content"


def has_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_a_program_that_can_not_run_is_an_error(
    started: list[Process], file: Path, reader_changed: Callable[[str, str], None]
) -> None:
    reader_changed("def main() -> None:", "def main(none) -> None:")
    with pytest.raises(OSError, match="no program can be started that reads files"):
        content(Readers(), file)
    assert len(started) == 1


def test_a_path_that_hangs_is_in_no_other_path_s_way_and_not_asked_for_again(
    started: list[Process], file: Path, reader_changed: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process can't be killed either, as it can't where a file system hangs; the integration tier has real ones."""
    reader_changed(
        "    try:\n        about",
        "    while path.endswith(b'hangs'): select.select([], [], [])\n    try:\n        about",
    )
    monkeypatch.setattr(command, "_END_SECONDS", 0.0)
    readers, began = Readers(), time.monotonic()
    with monkeypatch.context() as undead:
        undead.setattr(subprocess.Popen, "kill", lambda _: None)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                content(readers, file.with_name("hangs"), seconds=0.3)
            assert content(readers, file) == b"content"
    assert time.monotonic() - began < 30
    assert len(started) == 2
    started[0].kill()
    await_that(lambda: started[0].returncode is not None, lambda: "it does not end")
    with pytest.raises(TimeoutError):
        content(readers, file.with_name("hangs"), seconds=0.3)
    assert len(started) == 2, "it was asked for again, of the idle one"


def test_an_answer_that_lacks_nothing_but_a_processor_is_waited_for(
    file: Path, reader_changed: Callable[[str, str], None], in_background: Background
) -> None:
    """An overloaded host is no file system that hangs; nor do others who want the same file take it for one."""
    reader_changed(
        "    try:\n        about",
        "    import time\n"
        "    until = time.monotonic() + 1\n"
        "    while time.monotonic() < until: pass\n"
        "    try:\n        about",
    )
    readers = Readers()
    calls = [in_background(content, readers, file, 0.3) for _ in range(4)]
    assert [call.result() for call in calls] == [b"content"] * 4


def test_a_path_that_hangs_is_asked_for_by_few_however_many_want_it(
    started: list[Process],
    file: Path,
    reader_changed: Callable[[str, str], None],
    in_background: Background,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host_readers, "STARVED_SECONDS", 0.0)
    reader_changed(
        "    try:\n        about",
        "    while path.endswith(b'hangs') and not os.path.exists(path[:-5] + b'answers'):\n"
        "        select.select([], [], [], 0.1)\n"
        "    try:\n        about",
    )
    readers, hangs, arrived = Readers(), file.with_name("hangs"), threading.Semaphore(0)

    def ask() -> int:
        arrived.release()
        return readers.ask(hangs, 0, LIMIT_SECONDS)[0]

    hanging = [in_background(ask) for _ in range(20)]
    for _ in hanging:
        assert arrived.acquire(timeout=LIMIT_SECONDS)
    await_that(lambda: started, lambda: "they have no reader yet")
    assert content(readers, file) == b"content"
    with pytest.raises(TimeoutError):
        readers.ask(hangs, 0, 0.3)
    assert len(started) <= FEW + 1, "those, and one for the file that does not hang"
    file.with_name("answers").touch()
    assert [call.result() for call in hanging] == [errno.ENOENT] * 20


def test_a_path_that_is_slow_is_answered_to_all_who_want_it(
    started: list[Process], file: Path, reader_changed: Callable[[str, str], None], in_background: Background
) -> None:
    reader_changed("    try:\n        about", "    select.select([], [], [], 0.3)\n    try:\n        about")
    readers = Readers()
    calls = [in_background(content, readers, file) for _ in range(10)]
    assert [call.result() for call in calls] == [b"content"] * 10
    assert len(started) <= FEW


def test_no_process_is_added_for_those_who_wait_long_because_they_are_many(
    started: list[Process],
    file: Path,
    reader_changed: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
    in_background: Background,
) -> None:
    monkeypatch.setattr(host_readers, "_SLOW_SECONDS", 3.0)
    reader_changed("    try:\n        about", "    select.select([], [], [], 0.5)\n    try:\n        about")
    readers = Readers()
    calls = [in_background(readers.ask, file.with_name(f"{number}"), 0, LIMIT_SECONDS) for number in range(14)]
    assert [call.result()[0] for call in calls] == [errno.ENOENT] * 14
    assert len(started) == FEW


def test_all_who_are_few_may_hang_and_another_is_answered(
    started: list[Process], file: Path, reader_changed: Callable[[str, str], None], in_background: Background
) -> None:
    reader_changed(
        "    try:\n        about", "    while b'hangs' in path: select.select([], [], [])\n    try:\n        about"
    )
    readers = Readers()
    hanging = [in_background(readers.ask, file.with_name(f"hangs{number}"), 0, 3.0) for number in range(FEW + 1)]
    await_that(lambda: len(started) == FEW + 1, lambda: "they have no reader yet")
    assert content(readers, file) == b"content"
    assert not any(call.done() for call in hanging)
    assert all(isinstance(call.exception(), TimeoutError) for call in hanging)
