# SPDX-License-Identifier: MIT
"""Which host keys are known, by OpenSSH's own rules, and how new ones are written down."""

import base64
import errno
import fcntl
import os
import resource
import stat
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.programs import Programs
from support.ssh_keys import host_key
from support.waiting import LIMIT_SECONDS

from sshfs_plugin import errors
from sshfs_plugin.host import command, local_files
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh import known_hosts
from sshfs_plugin.ssh.known_hosts import HostKey, KnownHosts, line, pattern

PORT = 2222


def key(kind: str = "ed25519", number: int = 1) -> HostKey:
    made = host_key(kind, number)
    return HostKey(kind=made.get_name(), blob=made.asbytes())


def public(of: HostKey) -> str:
    return f"{of.kind} {base64.b64encode(of.blob).decode()}"


@pytest.fixture
def known(tmp_path: Path) -> KnownHosts:
    return KnownHosts(
        own=tmp_path / "known_hosts",
        others=(tmp_path / "root_known_hosts", tmp_path / "ssh_known_hosts"),
        pinned=tmp_path / "pinned",
    )


def blobs(keys: tuple[HostKey, ...]) -> list[bytes]:
    return [each.blob for each in keys]


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_fingerprint_is_the_one_that_ssh_keygen_prints(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "key.pub"
    file.write_text(public(key(kind)) + "\n")
    printed = command.run(["ssh-keygen", "-lf", file], seconds=LIMIT_SECONDS).stdout
    assert key(kind).fingerprint in printed.split()


@pytest.mark.parametrize(
    ("host", "port", "name"),
    [
        ("nas", 22, "nas"),
        ("NAS.Example", 22, "nas.example"),
        ("nas", 2222, "[nas]:2222"),
        ("2001:db8::7", 22, "2001:db8::7"),
        ("2001:db8::7", 2222, "[2001:db8::7]:2222"),
    ],
)
def test_pattern_names_a_server_as_ssh_does(host: str, port: int, name: str) -> None:
    assert pattern(host, port) == name
    assert line(host, port, key()) == f"{name} {public(key())}\n"


def test_lookup_when_there_are_no_files_knows_nobody(known: KnownHosts) -> None:
    assert known.lookup("nas", 22) == ()


def test_lookup_finds_keys_in_all_files_and_tells_which(known: KnownHosts) -> None:
    known.own.write_text(f"nas {public(key())}\n")
    known.others[0].write_text(f"other {public(key('rsa'))}\n")
    known.others[1].write_text(f"# a comment\n\nnas {public(key('ecdsa'))} root@nas\n")
    assert [(found.kind, found.blob, found.file) for found in known.lookup("nas", 22)] == [
        ("ssh-ed25519", key().blob, known.own),
        ("ecdsa-sha2-nistp256", key("ecdsa").blob, known.others[1]),
    ]


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("nas", "NAS", 22),
        ("NAS", "nas", 22),
        ("nas,192.0.2.7", "192.0.2.7", 22),
        ("*.example.org", "nas.example.org", 22),
        ("na?", "nas", 22),
        ("!old.example.org,*.example.org", "nas.example.org", 22),
        ("[nas]:2222", "nas", PORT),
        ("[*.example.org]:2222", "nas.example.org", PORT),
        ("2001:db8::7", "2001:db8::7", 22),
        ("[2001:db8::7]:2222", "2001:db8::7", PORT),
    ],
)
def test_lookup_matches_names_as_ssh_does(known: KnownHosts, written: str, host: str, port: int) -> None:
    known.others[0].write_text(f"{written} {public(key())}\n")
    assert blobs(known.lookup(host, port)) == [key().blob]


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("nas", "nas2", 22),
        ("[nas]:2222", "nas", 22),
        ("[nas]:2222", "nas", 2223),
        ("!old.example.org,*.example.org", "old.example.org", 22),
    ],
)
def test_lookup_does_not_match_others(known: KnownHosts, written: str, host: str, port: int) -> None:
    known.others[0].write_text(f"{written} {public(key())}\n")
    assert known.lookup(host, port) == ()


@pytest.mark.parametrize(("host", "port"), [("nas", 22), ("nas", PORT)])
def test_lookup_when_names_are_hashed_finds_them(known: KnownHosts, host: str, port: int) -> None:
    known.own.write_text(line(host, port, key()) + line("other", port, key("rsa")))
    command.run(["ssh-keygen", "-H", "-f", known.own], seconds=LIMIT_SECONDS)
    assert known.own.read_text().startswith("|1|")
    assert blobs(known.lookup(host, port)) == [key().blob]


def test_lookup_when_a_key_is_revoked_says_so(known: KnownHosts) -> None:
    known.own.write_text(f"nas {public(key('ecdsa'))}\n@revoked * {public(key())}\n")
    assert [(found.blob, found.revoked) for found in known.lookup("nas", 22)] == [
        (key("ecdsa").blob, False),
        (key().blob, True),
    ]


def test_lookup_leaves_out_authorities_and_what_is_no_key(known: KnownHosts) -> None:
    known.own.write_text(
        f"@cert-authority nas {public(key())}\nnas ssh-ed25519 !!!\nnas\nnas ssh-ed25519\nnas {public(key('rsa'))}\n"
    )
    assert blobs(known.lookup("nas", 22)) == [key("rsa").blob]


@pytest.mark.parametrize("own", [True, False])
def test_lookup_in_a_file_that_is_as_it_was_asks_ssh_keygen_once(
    known: KnownHosts, programs: Programs, own: bool
) -> None:
    file = known.own if own else known.others[0]
    contents: list[tuple[HostKey, ...]] = [(), (key(),), (key(), key("rsa")), (key("rsa"),)]
    programs.add("ssh-keygen", 'exec /usr/bin/ssh-keygen "$@"')  # only now: it may have been needed for the keys
    for keys in contents:
        file.write_text("".join(line("nas", 22, each) for each in keys))
        for _ in range(3):
            assert blobs(known.lookup("nas", 22)) == blobs(keys)
            assert known.lookup("nas", PORT) == ()
    assert len(programs.calls("ssh-keygen")) == 4 * 2
    file.unlink()
    assert known.lookup("nas", 22) == ()


def test_lookup_in_a_file_that_changes_meanwhile_is_not_remembered(known: KnownHosts, programs: Programs) -> None:
    before, after = line("nas", 22, key()), line("nas", 22, key("rsa"))
    known.own.write_text(before)
    programs.add("ssh-keygen", f"echo '{after}' >{known.own}; exec /usr/bin/ssh-keygen \"$@\"")
    assert blobs(known.lookup("nas", 22)) == [key("rsa").blob]
    programs.add("ssh-keygen", 'exec /usr/bin/ssh-keygen "$@"')
    known.own.write_text(before)
    assert blobs(known.lookup("nas", 22)) == [key().blob]


def test_lookup_that_was_killed_is_an_error_and_not_remembered(known: KnownHosts, programs: Programs) -> None:
    """To know no key would let any key pass as a new one."""
    known.add("nas", 22, key())
    programs.add("ssh-keygen", "kill -KILL $$")
    with pytest.raises(errors.StateError, match=f"ssh-keygen could not look for nas in {known.own} .exit status -9."):
        known.lookup("nas", 22)
    programs.add("ssh-keygen", 'exec /usr/bin/ssh-keygen "$@"')
    assert blobs(known.lookup("nas", 22)) == [key().blob]


@pytest.mark.parametrize("problem", [errno.EAGAIN, errno.ENOENT, errno.EACCES])
def test_lookup_for_which_no_program_can_be_started_is_an_error_and_not_an_unknown_server(
    known: KnownHosts, monkeypatch: pytest.MonkeyPatch, problem: int
) -> None:
    """Else any key would pass as the first one of a new server."""
    known.add("nas", 22, key())
    known.own.write_bytes(known.own.read_bytes() + b"# looked at anew %d\n" % problem)
    start = subprocess.Popen.__init__

    def refuse(process: subprocess.Popen[bytes], argv: list[str], **how: Any) -> None:
        if "ssh-keygen" in argv:
            raise OSError(problem, os.strerror(problem))
        start(process, argv, **how)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(subprocess.Popen, "__init__", refuse)
        with pytest.raises(errors.ProgramNotStarted) as refusal:
            known.lookup("nas", 22)
    assert str(refusal.value) == (
        f"cannot start ssh-keygen, {os.strerror(problem)}: "
        "is it installed, and has this host processes and memory left?"
    )
    assert blobs(known.lookup("nas", 22)) == [key().blob]


def test_lookup_on_a_broken_disk_is_an_error_and_not_an_unknown_server(
    known: KnownHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(_: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    known.add("nas", 22, key())
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Path, "read_bytes", break_off)
        with pytest.raises(errors.StateError) as refusal:
            known.lookup("nas", 22)
    assert str(refusal.value) == f"ssh-keygen could not look for nas in {known.own} (Input/output error): try again"
    assert blobs(known.lookup("nas", 22)) == [key().blob]


def test_lookup_in_a_very_large_file_sees_what_changes_at_its_end(known: KnownHosts) -> None:
    others = "# a comment\n" * (local_files.LARGEST // 10)
    for last in (key(), key("rsa")):
        known.others[0].write_text(others + line("nas", 22, last))
        assert blobs(known.lookup("nas", 22)) == [last.blob]


def test_add_when_a_server_is_new_writes_a_line_that_ssh_finds(known: KnownHosts) -> None:
    known.add("NAS", PORT, key())
    assert known.own.read_text() == f"[nas]:2222 {public(key())}\n"
    assert blobs(known.lookup("nas", PORT)) == [key().blob]


def test_add_when_the_key_is_known_anywhere_writes_nothing(known: KnownHosts) -> None:
    known.others[1].write_text(f"*.example.org {public(key())}\n")
    known.add("nas.example.org", 22, key())
    assert known.own.read_text() == ""
    known.add("nas", 22, key())
    known.add("nas", 22, key())
    assert known.own.read_text() == f"nas {public(key())}\n"


def test_add_when_the_last_line_was_left_unfinished_by_an_editor_keeps_both(known: KnownHosts) -> None:
    known.own.write_text(f"other {public(key('rsa'))}")
    known.add("nas", 22, key())
    assert known.own.read_text() == f"other {public(key('rsa'))}\nnas {public(key())}\n"


def test_key_for_which_the_disk_has_no_room_leaves_no_half_a_line(known: KnownHosts) -> None:
    """The key of no server could be forgotten then: ssh-keygen changes no file that has such a line."""
    known.add("other", 22, key("rsa"))
    before, limit = known.own.read_text(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limit[1]))
    try:
        with pytest.raises(errors.StateUnwritable, match=f"cannot write {known.own}, File too large"):
            known.add("nas", 22, key())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert known.own.read_text() == before
    known.forget("other", 22)
    assert known.own.read_text() == ""


def test_add_when_many_volumes_meet_the_same_new_servers_at_once_writes_each_once(known: KnownHosts) -> None:
    hosts = [f"nas{number % 2}" for number in range(6)]
    threads = [threading.Thread(target=known.add, args=(host, 22, key())) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(known.own.read_text().splitlines()) == [f"nas{number} {public(key())}" for number in range(2)]


def test_add_when_another_process_is_writing_waits_until_it_is_done(known: KnownHosts) -> None:
    with known.own.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        adding = threading.Thread(target=known.add, args=("nas", 22, key()))
        adding.start()
        adding.join(0.1)
        assert adding.is_alive()
        file.write(line("nas", 22, key()))
    adding.join()
    assert known.own.read_text() == line("nas", 22, key())


@pytest.mark.parametrize("act", ["add", "forget"])
def test_known_hosts_that_another_process_keeps_locked_are_given_up(
    known: KnownHosts, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """Such as a command of the administrator that was stopped with Ctrl-Z: nobody is to wait for it for ever."""
    monkeypatch.setattr(known_hosts, "LOCK_SECONDS", 0.1)
    with known.own.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(errors.StateError) as raised:
            known.add("nas", 22, key()) if act == "add" else known.forget("nas", 22)
    assert str(raised.value) == (
        f"another process has locked {known.own} and does not end: end it; lslocks tells which it is"
    )


def test_pin_keeps_one_key_for_one_volume_and_the_latest(known: KnownHosts) -> None:
    known.pin("photos", "nas", PORT, key("rsa"))
    known.pin("photos", "nas", PORT, key())
    known.pin("music", "nas", 22, key("ecdsa"))
    assert (known.pinned / "photos").read_text() == f"[nas]:2222 {public(key())}\n"
    assert (known.pinned / "music").read_text() == f"nas {public(key('ecdsa'))}\n"
    assert sorted(path.name for path in known.pinned.iterdir()) == ["music", "photos"]
    assert stat.S_IMODE(known.pinned.stat().st_mode) == 0o700
    assert known.lookup("nas", PORT) == ()


def test_unpin_forgets_one_volume_and_is_content_when_there_is_nothing(known: KnownHosts) -> None:
    known.unpin("photos")
    known.pin("photos", "nas", 22, key())
    known.pin("music", "nas", 22, key())
    known.unpin("photos")
    assert [path.name for path in known.pinned.iterdir()] == ["music"]


def test_known_hosts_of_a_host_are_the_plugins_own_and_then_those_of_the_administrator() -> None:
    known = KnownHosts.of(Settings(state=Path("/srv/state"), home=Path("/home/admin")))
    assert known.own == Path("/srv/state/known_hosts")
    assert known.others == (Path("/home/admin/.ssh/known_hosts"), Path("/etc/ssh/ssh_known_hosts"))
    assert known.pinned == Path("/srv/state/pinned")


def test_add_when_it_cannot_write_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "gone").write_text("a file where a directory should be")
    known_hosts = KnownHosts(own=tmp_path / "gone/known_hosts", others=(), pinned=tmp_path / "gone/pinned")
    key = HostKey(kind="ssh-ed25519", blob=b"key")
    with pytest.raises(errors.StateError, match=r"cannot write \S+/gone/known_hosts, File exists: what is there"):
        known_hosts.add("nas", 22, key)
    with pytest.raises(errors.StateError, match=r"cannot write \S+/gone/pinned/photos"):
        known_hosts.pin("photos", "nas", 22, key)


def test_add_when_nothing_was_ever_written_makes_the_directory_for_root_alone(tmp_path: Path) -> None:
    known = KnownHosts(own=tmp_path / "state/known_hosts", others=(), pinned=tmp_path / "state/pinned")
    known.add("nas", 22, key())
    assert blobs(known.lookup("nas", 22)) == [key().blob]
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


@pytest.mark.parametrize("hashed", [False, True])
def test_forget_drops_every_key_of_one_server_and_leaves_no_copy(known: KnownHosts, hashed: bool) -> None:
    known.add("nas", PORT, key())
    known.add("nas", PORT, key("rsa"))
    known.add("nas", 22, key())
    if hashed:
        command.run(["ssh-keygen", "-H", "-f", known.own], seconds=LIMIT_SECONDS)
        known.own.with_name("known_hosts.old").unlink()
    known.forget("NAS", PORT)
    assert known.lookup("nas", PORT) == ()
    assert blobs(known.lookup("nas", 22)) == [key().blob]
    assert [path.name for path in known.own.parent.iterdir()] == ["known_hosts"]


def test_forget_leaves_the_administrators_files_alone(known: KnownHosts) -> None:
    known.others[0].write_text(f"nas {public(key())}\n")
    known.forget("nas", 22)
    assert [found.file for found in known.lookup("nas", 22)] == [known.others[0]]


def test_forget_asks_no_file_but_its_own(known: KnownHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    known.add("nas", PORT, key())

    def hang(*_: object) -> tuple[HostKey, ...]:
        raise errors.FileStuck("/root/.ssh/known_hosts", 5)

    monkeypatch.setattr(KnownHosts, "verified", hang)
    known.forget("nas", PORT)
    assert known.accepted("nas", PORT) == ()


def test_key_of_a_jump_host_can_be_pinned_by_several_volumes_at_once(known: KnownHosts) -> None:
    with ThreadPoolExecutor(8) as threads:
        pins = [threads.submit(known.pin, "jump:bastion", "nas", PORT, key()) for _ in range(400)]
    for pin in pins:
        pin.result()
    assert [file.name for file in known.pinned.iterdir()] == ["jump:bastion"]


def test_forget_leaves_revoked_keys_and_says_so(known: KnownHosts) -> None:
    known.own.write_text(f"@revoked nas {public(key())}\nnas {public(key('rsa'))}\n")
    with pytest.raises(errors.StateError, match=r"known_hosts still knows nas, .*: if it is not revoked after"):
        known.forget("nas", 22)
    assert [(found.blob, found.revoked) for found in known.lookup("nas", 22)] == [(key().blob, True)]


def test_forget_when_ssh_keygen_refuses_the_file_says_why(known: KnownHosts) -> None:
    known.own.write_text(f"nas\nnas {public(key())}\n")
    with pytest.raises(errors.StateError, match=r"could not remove nas from \S+known_hosts: it says: .*invalid line"):
        known.forget("nas", 22)
    assert blobs(known.lookup("nas", 22)) == [key().blob]


def test_add_when_the_file_is_replaced_while_it_waits_writes_to_the_new_one(known: KnownHosts) -> None:
    known.own.write_text(line("other", 22, key("rsa")))
    with known.own.open() as old:
        fcntl.flock(old, fcntl.LOCK_EX)
        adding = threading.Thread(target=known.add, args=("nas", 22, key()))
        adding.start()
        adding.join(0.1)
        new = known.own.with_name("new")
        new.write_text("")
        new.replace(known.own)
    adding.join()
    assert known.own.read_text() == line("nas", 22, key())


def test_removal_is_a_command_for_the_file_that_knows_the_key(known: KnownHosts) -> None:
    known.own.write_text(line("nas", PORT, key()))
    known.others[0].write_text(line("nas", PORT, key("rsa")))
    assert [known.removal("nas", PORT, found) for found in known.lookup("nas", PORT)] == [
        "docker-volume-sshfs host-key forget '[nas]:2222'",
        f"ssh-keygen -R '[nas]:2222' -f {known.others[0]}",
    ]


@pytest.mark.parametrize("odd", ["\f", "\r", "\x85", "\u2028"])
def test_faulty_lines_are_counted_as_sed_counts_them(known: KnownHosts, odd: str) -> None:
    """Their numbers are for ``sed``, which would otherwise remove the key of another host."""
    known.own.write_text(f"# a note{odd}of two parts\nnas rubbish\n", newline="")
    assert known.faulty_lines() == [2]
