# SPDX-License-Identifier: MIT
"""Secrets, put in by every way that there is, and looked for wherever somebody could read them."""

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import ssh_keys, ssh_server
from support.waiting import LIMIT_SECONDS

from integration.plugin import Plugin, Refused
from sshfs_plugin.host import command

IN_OPTION, IN_LIST, IN_LIST_OF_O = "s3cret-in-option", "s3cret,in=list", "s3cret-in-list-of-o"
IN_FILE, IN_LOGIN, IN_URL, IN_USER = "s3cret-in-file", "s3cret-in-login", "s3cret-in-url", "s3cret-in-user"
CREDENTIAL, PASSPHRASE, SEVERAL_LINES = "s3cret-credential", "s3cret-passphrase", "s3cret-in-several-lines"
WRONG, WRONG_IN_FILE, NO_OPTION = "s3cret-that-is-wrong", "s3cret-that-is-wrong-in-file", "s3cret-of-no-option"
_LOOK_SECONDS = 0.002
"""Between two looks at all processes: far less than any program runs."""


@pytest.fixture
def password_server(tmp_path: Path) -> Iterator[ssh_server.Server]:
    """Give a server that takes one password, the one that the test sets."""
    (tmp_path / "served").mkdir()
    account = ssh_server.Account(directory=tmp_path / "served", changes=("open", "write", "remove"))
    with ssh_server.serving(account) as server:
        yield server


class Readers:
    """What anybody may come to read of a plugin."""

    def __init__(self, plugin: Plugin, secrets: frozenset[str]) -> None:
        self.plugin, self.secrets = plugin, secrets
        self.answers: list[str] = []

    def call(self, verb: str, **body: Any) -> bool:
        """Make a call and keep its answer; return whether it was a success."""
        try:
            self.answers.append(json.dumps(self.plugin.call(verb, **body)))
        except Refused as refused:
            self.answers.append(str(refused))
            return False
        return True

    @contextlib.contextmanager
    def looking_at_processes(self) -> Iterator[None]:
        """Look all the time into what the processes of this host, the volumes' among them, were started with."""
        ended = threading.Event()
        # but for the service's, they were started before there were secrets
        older = _processes() - set(self.plugin.processes())

        def look() -> None:
            while not ended.wait(_LOOK_SECONDS):
                for process in _processes() - older:
                    self._look_at(process)

        with ThreadPoolExecutor(1) as threads:
            looking = threads.submit(look)
            try:
                yield
            finally:
                ended.set()
        looking.result()

    def _look_at(self, process: int) -> None:
        for file in ("cmdline", "environ"):
            with contextlib.suppress(OSError):  # it has ended
                path = Path(f"/proc/{process}/{file}")
                self.expect_none(path.read_bytes().decode(errors="replace"), str(path))

    def expect_none(self, text: str, where: str) -> None:
        """Expect no secret in a text, in whatever way it may be quoted."""
        found = [secret for secret in self.secrets if secret in text or secret.replace(",", "\\,") in text]
        assert found == [], where

    def look_at_files(self) -> set[str]:
        """Return the secrets that are in files, which root alone may read, in directories that root alone may enter."""
        seen = set()
        for below in (self.plugin.settings.state, self.plugin.settings.runtime):
            for file in (path for path in below.rglob("*") if path.is_file()):
                found = {secret for secret in self.secrets if secret in file.read_text(errors="replace")}
                seen |= found
                assert not found or file.parent != self.plugin.settings.logs, file
                if found:
                    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700), file
        return seen


def _processes() -> set[int]:
    """Return the processes of this host."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def key_body(key: Path) -> frozenset[str]:
    """Return the lines of a private key that are secret."""
    return frozenset(line for line in key.read_text().splitlines()[2:] if not line.startswith("-----"))


def test_no_secret_is_read_anywhere_but_in_files_of_root(
    plugin: Plugin, password_server: ssh_server.Server, tmp_path: Path
) -> None:
    key = ssh_keys.write_key(tmp_path / "key", "ed25519")
    bad_key = tmp_path / "bad-key"
    bad_key.write_text(key.read_text().replace("\nb3Blb", "\nb3Blc"))
    bad_key.chmod(0o600)
    files = {"right": IN_FILE, "wrong": WRONG_IN_FILE, "open": IN_FILE}
    for name, password in files.items():
        (tmp_path / name).write_text(f"{password}\n")
        (tmp_path / name).chmod(0o644 if name == "open" else 0o600)
    locked = ssh_keys.write_key(tmp_path / "locked", "ed25519")
    words = ("-q", "-p", "-P", "", "-N", PASSPHRASE, "-f", locked)
    command.run(["ssh-keygen", *words], seconds=LIMIT_SECONDS).check_returncode()
    plugin.settings.credentials.mkdir()
    for name, text in {"nas": CREDENTIAL, "pass": PASSPHRASE, "bad": f"{SEVERAL_LINES}\n\n"}.items():
        (plugin.settings.credentials / name).touch(0o600)
        (plugin.settings.credentials / name).write_text(text)
    passwords = {IN_OPTION, IN_LIST, IN_LIST_OF_O, IN_FILE, CREDENTIAL}
    secrets = {
        PASSPHRASE,
        SEVERAL_LINES,
        IN_LOGIN,
        IN_URL,
        IN_USER,
        WRONG,
        WRONG_IN_FILE,
        NO_OPTION,
        *passwords,
        *key_body(key),
    }
    readers = Readers(plugin, frozenset(secrets))
    nas = {"sshcmd": "bob@127.0.0.1:/", "port": str(password_server.port)}

    def create(name: str, **opts: str) -> bool:
        return readers.call("Create", Name=name, Opts={**nas, **opts})

    def accepting(**account: object) -> None:
        password_server.account = replace(password_server.account, **account)

    good: Mapping[str, tuple[str, dict[str, str]]] = {
        "by-option": (IN_OPTION, {"password": IN_OPTION}),
        "by-list": (IN_LIST, {"ro,password": IN_LIST}),
        "by-o": (IN_LIST_OF_O, {"o": f"ro,password={IN_LIST_OF_O}"}),
        "by-file": (IN_FILE, {"password_file": str(tmp_path / "right")}),
        "by-secret": (CREDENTIAL, {"secret": "nas"}),
    }
    with readers.looking_at_processes():
        for name, (password, opts) in good.items():
            accepting(password=password)
            assert create(name, **opts), readers.answers[-1]
            assert readers.call("Mount", Name=name, ID="one"), readers.answers[-1]
            readers.call("Mount", Name=name, ID="two")
        accepting(password="", keys=[key.with_name("key.pub").read_text()])
        assert create("by-key", IdentityFile=str(key)), readers.answers[-1]
        assert readers.call("Mount", Name="by-key", ID="one"), readers.answers[-1]
        assert create("by-locked", IdentityFile=str(locked), passphrase_secret="pass"), readers.answers[-1]
        assert readers.call("Mount", Name="by-locked", ID="one"), readers.answers[-1]
        assert passwords - {IN_FILE} <= readers.look_at_files() <= passwords - {IN_FILE}

        for name, bad in {
            "by-option": {"password": WRONG},  # exists already, with another
            "bad-1": {"password": WRONG},
            "bad-2": {"password": f"{WRONG}\n"},
            "bad-3": {"password_file": str(tmp_path / "wrong")},
            "bad-4": {"password_file": str(tmp_path / "open")},
            "bad-5": {"password_file": WRONG},
            "bad-6": {"IdentityFile": str(bad_key)},
            "bad-7": {"password": WRONG, "password_file": str(tmp_path / "wrong")},
            "bad-13": {"secret": "bad"},
            "bad-14": {"secret": WRONG + "!"},
            "bad-15": {"IdentityFile": str(locked), "passphrase_secret": "nas"},
            "bad-8": {"sshcmd": f"bob:{IN_LOGIN}@127.0.0.1:/"},
            "bad-9": {"sshcmd": f"ssh://bob:{IN_URL}@127.0.0.1/"},
            "bad-10": {"user": f"bob:{IN_USER}"},
            "bad-11": {"pasword": NO_OPTION},
            "bad-12": {"ro,pasword": f"{NO_OPTION},uid=1000"},
            "bad..": {"password": WRONG, "port": "1"},
            "/bad": {"password": WRONG},
        }.items():
            assert not create(name, **bad), name
        for name in ("late-1", "late-2"):
            opts = {"password": WRONG} if name == "late-1" else {"password_file": str(tmp_path / "wrong")}
            assert create(name, check="never", **opts)
            assert not readers.call("Mount", Name=name, ID="one"), "sshfs itself is refused"

        for name in [volume["Name"] for volume in plugin.call("List")["Volumes"]]:
            readers.call("Get", Name=name)
            for holder in ("one", "two"):
                readers.call("Unmount", Name=name, ID=holder)
        readers.call("List")
        assert WRONG in readers.look_at_files(), "a volume that can't be mounted has its password on record as well"
        for name in [volume["Name"] for volume in plugin.call("List")["Volumes"]]:
            assert readers.call("Remove", Name=name)
        assert readers.look_at_files() == set(), "what is removed leaves nothing"
    for answer in readers.answers:
        readers.expect_none(answer, answer)
    readers.expect_none(plugin.log.read_text(errors="replace"), "the log")
