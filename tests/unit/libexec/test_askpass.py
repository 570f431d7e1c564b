# SPDX-License-Identifier: MIT
"""What ssh is told when it asks for a password."""

import json
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.impostors import LOOPBACK
from support.ssh_keys import host_key
from support.ssh_server import PASSWORD, TYPED, Account, serving
from support.waiting import LIMIT_SECONDS

from sshfs_plugin import options
from sshfs_plugin.host import command
from sshfs_plugin.mounts.unit_files import UnitFiles
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.credentials import Keyring
from sshfs_plugin.ssh.known_hosts import HostKey, KnownHosts
from sshfs_plugin.volume import Volume, VolumeName

ROOT = Path(__file__).parents[3]
ASKPASS = ROOT / "libexec/askpass"
CONNECT = 'set -a; . "$0"; exec ssh -F "$SSH_CONFIG" -s "$1" sftp'
PROMPT = "bob@nas's password: "

Ask = Callable[[str], subprocess.CompletedProcess[str]]


def volume(opts: Mapping[str, str]) -> Volume:
    return options.parse(VolumeName("photos"), {"sshcmd": "bob@nas:", **opts}, datetime.now(UTC))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state=tmp_path / "state", home=tmp_path / "root", runtime=tmp_path / "run", libexec=ROOT / "libexec"
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "password"


@pytest.fixture
def ask(file: Path) -> Ask:
    """Ask as ssh does for a volume whose password is in the file."""

    def asking(prompt: str) -> subprocess.CompletedProcess[str]:
        return command.run(
            [ASKPASS, prompt], seconds=LIMIT_SECONDS, environment={"SSHFS_PLUGIN_PASSWORD_FILE": str(file)}
        )

    return asking


@pytest.mark.parametrize("password", [" hünter,2 ", '$HOME `id` "\\n%s', "-n", "-e \\c", "'", "a\\"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\nsecond line\n"])
@pytest.mark.parametrize("begin", ["", "\ufeff"], ids=["", "BOM"])
def test_answer_is_the_first_line_of_the_file_as_it_is(
    file: Path, ask: Ask, password: str, begin: str, end: str
) -> None:
    file.write_text(f"{begin}{password}{end}", "utf-8", newline="")
    assert ask(PROMPT).stdout == f"{password}\n"


def test_answer_is_what_is_in_the_file_now(file: Path, ask: Ask) -> None:
    file.write_text("old")
    assert ask(PROMPT).stdout == "old\n"
    file.write_text("new\nsecond line\n")
    assert ask("(bob@nas) Verification code: ").stdout == "new\n"


@pytest.mark.parametrize("login", ["passphrase@nas", "bob@passphrase.example", "new password@nas", "retype me@nas"])
@pytest.mark.parametrize("prompt", ["{}'s password: ", "({}) Password: "])
def test_answer_when_the_login_is_named_like_something_else_is_the_password(
    file: Path, ask: Ask, login: str, prompt: str
) -> None:
    file.write_text("hunter2")
    assert ask(prompt.format(login)).stdout == "hunter2\n"


@pytest.mark.parametrize(
    "prompt",
    [
        "Enter passphrase for key '/root/.ssh/id_rsa': ",
        "Enter ann@bastion's old password: ",
        "Enter ann@bastion's new password: ",
        "Retype ann@bastion's new password: ",
        "(bob@nas) New password: ",
        "(bob@nas) Enter new password: ",
        "(bob@nas) Retype new password: ",
        "(bob@nas) Repeat the new one: ",
    ],
)
def test_answer_when_something_else_is_wanted_is_none(file: Path, ask: Ask, prompt: str) -> None:
    file.write_text("hunter2")
    answer = ask(prompt)
    assert (answer.returncode, answer.stdout) == (1, "")


def ask_on_the_way(directory: Path, prompt: str, accounts: Mapping[int, str]) -> subprocess.CompletedProcess[str]:
    """Ask as ssh does for a volume behind jump hosts; 0 is the account at the server."""
    variables = {}
    for number, account in accounts.items():
        (directory / str(number)).write_text(f"of number {number}\n")
        variables[f"SSHFS_PLUGIN_ACCOUNT_{number}"] = account
        variables[f"SSHFS_PLUGIN_ACCOUNT_{number}_PASSWORD_FILE"] = str(directory / str(number))
    return command.run([ASKPASS, prompt], seconds=LIMIT_SECONDS, environment=variables)


ON_THE_WAY = {0: "bob@nas", 1: "ann@[bastion]:2222", 2: "EXAMPLE\\bob smith@10.0.0.7", 3: "bob@[nas]:2222"}


@pytest.mark.parametrize(
    ("prompt", "number"),
    [
        ("bob@nas's password: ", 0),
        ("(bob@nas) Password: ", 0),
        ("(bob@nas) (ann@[bastion]:2222) Password: ", 0),
        ("(bob@nas) ann@[bastion]:2222's password: ", 0),
        ("ann@[bastion]:2222's password: ", 1),
        ("(ann@[bastion]:2222) Password: ", 1),
        ("EXAMPLE\\bob smith@10.0.0.7's password: ", 2),
        ("(EXAMPLE\\bob smith@10.0.0.7) Password: ", 2),
        ("bob@[nas]:2222's password: ", 3),
    ],
)
def test_answer_is_for_whoever_asks(tmp_path: Path, prompt: str, number: int) -> None:
    """Ssh itself writes who logs in where before what a server asks."""
    assert ask_on_the_way(tmp_path, prompt, ON_THE_WAY).stdout == f"of number {number}\n"


@pytest.mark.parametrize(
    "prompt",
    [
        "ann@[bastion]:2223's password: ",
        "bob@na's password: ",
        "Bob@nas's password: ",
        "bob@nas's password: bob@nas's password: ",
        "(bob@nas)",
        "(bob@nass) Password: ",
        "(x) (bob@nas) Password: ",
        "Password: ",
        "",
    ],
)
@pytest.mark.parametrize("number", [0, 1])
def test_answer_to_a_question_that_names_none_of_several_hosts_is_none(
    tmp_path: Path, prompt: str, number: int
) -> None:
    for accounts in (ON_THE_WAY, {number: ON_THE_WAY[number]}):
        answer = ask_on_the_way(tmp_path, prompt, accounts)
        assert (answer.returncode, answer.stdout) == (1, "")
        assert answer.stderr == "what is asked names none or several of the volume's logins: no password is given\n"


def test_answer_to_a_question_that_names_two_of_several_hosts_is_none(tmp_path: Path) -> None:
    answer = ask_on_the_way(tmp_path, "bob@nas's password: ", {0: "bob@nas", 2: "bob@nas"})
    assert (answer.returncode, answer.stdout) == (1, "")


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_answer_when_there_is_no_password_is_what_to_do(file: Path, ask: Ask, content: str | None) -> None:
    if content is not None:
        file.write_text(content)
    answer = ask(PROMPT)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert f"cannot read a password from {file}: write it there, in the first line" in answer.stderr


@pytest.mark.parametrize(
    "opts", [{"password": " hünter,2 "}, {"password_file": "FILE"}, {"password_file": "~/password"}]
)
def test_answer_when_version_1_1_has_made_the_mount_comes_by_way_of_the_record(
    tmp_path: Path, file: Path, opts: Mapping[str, str]
) -> None:
    file.write_text("\ufeff hünter,2 \r\n", "utf-8", newline="")
    record = tmp_path / "state/volumes/photos.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"version": 1, "options": {k: v.replace("FILE", str(file)) for k, v in opts.items()}}))
    settings = {"SSHFS_PLUGIN_STATE": f"{tmp_path}/state", "SSHFS_PLUGIN_HOME": str(tmp_path)}
    answer = command.run(
        [ASKPASS, PROMPT], seconds=LIMIT_SECONDS, environment={"SSHFS_PLUGIN_PASSWORD_OF": "photos", **settings}
    )
    assert (answer.stdout, answer.stderr) == (" hünter,2 \n", "")


@pytest.mark.parametrize("method", [PASSWORD, TYPED])
def test_ssh_when_it_asks_the_program_logs_in_by_password(tmp_path: Path, settings: Settings, method: str) -> None:
    account = Account(directory=tmp_path, password="hünter 2", ways=[(method,)])
    with serving(account) as server:
        photos = volume({"password": "hünter 2", "port": str(server.port)})
        shown = host_key("ed25519")
        known_hosts = KnownHosts.of(settings)
        known_hosts.add(photos.remote.host, server.port, HostKey(kind=shown.get_name(), blob=shown.asbytes()))
        files = UnitFiles.of(settings, photos.name)
        files.write(photos, Keyring.of(settings).login(photos.credentials), settings)
        said = command.run(
            [*("sh", "-c", CONNECT), files.environment, f"bob@{LOOPBACK}"],
            seconds=LIMIT_SECONDS,
        )
    assert (said.returncode, said.stderr) == (0, "")
    assert method in server.seen
