# SPDX-License-Identifier: MIT
"""Keys and other files on a file system that has stopped answering, as NFS, autofs or an sshfs by hand may."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.plugin import Plugin, Refused
from integration.sshd import Server
from sshfs_plugin import errors
from sshfs_plugin.host import command
from sshfs_plugin.mounts import kernel
from sshfs_plugin.relay.ssh import Ssh

FILES = ("key", "key-cert.pub", "password", "known_hosts", "uids")


@pytest.fixture
def hung(server: Server, tmp_path: Path) -> Iterator[Path]:
    """Give a directory of files whose server reads requests no more."""
    directory = server.make(f"hung-{tmp_path.name}")
    for name in FILES:
        shutil.copyfile(server.key, directory / name)
        shutil.chown(directory / name, server.user)
        (directory / name).chmod(0o600)
    place = tmp_path / "hung"
    place.mkdir()
    before = server.connections()
    login = f"port={server.port},IdentityFile={server.key},StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null"
    source = f"{server.user}@127.0.0.1:{directory.parent}"
    subprocess.run(["sshfs", "-o", login, source, place], check=True, timeout=30)
    (connection,) = set(server.connections()) - set(before)
    serving = [connection, *_children(connection)]
    for process in serving:
        os.kill(process, signal.SIGSTOP)
    try:
        yield place / directory.name
    finally:
        for process in serving:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
        kernel.detach_all(place)


def _children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_a_program_that_can_not_be_killed_is_left_behind(hung: Path) -> None:
    for patience in (0.3, 3.0, 30.0):  # until sshfs has read what is asked of it: nothing tells when it has
        with pytest.raises(errors.ProgramStuck, match=f"cat did not end within {patience:.0f} seconds"):
            command.run(["cat", hung / "key"], seconds=patience)
        if command._left_behind:
            break
    assert command._left_behind, "it waits for an answer that no signal can replace"
    with pytest.raises(errors.ProgramStuck):
        command.run(["cat", hung / "key"], seconds=3600)
    kernel.detach_all(hung.parent)
    command._left_behind[-1].wait(10)


def test_an_ssh_that_can_not_be_killed_is_left_behind_by_the_relay(hung: Path) -> None:
    for patience in (0.1, 1.0, 10.0):  # until sshfs has read what is asked of it: nothing tells when it has
        ssh = Ssh(["/usr/bin/cat", str(hung / "key")], quiet=True)
        time.sleep(patience)
        began = time.monotonic()
        assert ssh.end() == -signal.SIGKILL
        assert time.monotonic() - began < 10, "the volume's requests wait meanwhile"
        if not ssh.has_ended():
            break
    assert not ssh.has_ended(), "it waits for an answer that no signal can replace"
    kernel.detach_all(hung.parent)
    assert ssh.await_end()


@pytest.mark.parametrize(
    ("option", "file"),
    [
        ("IdentityFile", "key"),
        ("password_file", "password"),
        ("CertificateFile", "key-cert.pub"),
        ("known_hosts", "known_hosts"),
        ("uidfile", "uids"),
    ],
)
def test_a_file_that_does_not_answer_is_named(
    plugin: Plugin, server: Server, hung: Path, option: str, file: str
) -> None:
    options = server.options(server.make(f"named-{option}"), **{option: str(hung / file)})
    if option == "uidfile":
        options["idmap"] = "file"
    if option == "password_file":
        del options["IdentityFile"]
    with pytest.raises(Refused, match=rf"cannot read {hung / file}, its file system did not answer"):
        plugin.call("Create", Name="named", Opts=options, seconds=30)


def test_roots_own_keys_and_known_hosts_that_do_not_answer_are_named(
    plugin: Plugin, server: Server, hung: Path
) -> None:
    (plugin.settings.home / ".ssh").symlink_to(hung)
    options = server.options(server.make("home"))
    with pytest.raises(
        Refused, match=rf"cannot read {plugin.settings.home}/.ssh/known_hosts, its file system did not answer"
    ):
        plugin.call("Create", Name="home", Opts=options, seconds=60)
    del options["IdentityFile"]
    with pytest.raises(
        Refused, match=rf"cannot read {plugin.settings.home}/.ssh/id_rsa, its file system did not answer"
    ):
        plugin.call("Create", Name="home", Opts=options, seconds=60)
