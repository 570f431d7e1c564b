# SPDX-License-Identifier: MIT
"""docker-volume-sshfs status: a running service seen from outside, by people and by programs."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.administrator import Administrator
from support.clients import ID, SSHCMD
from support.driver import FakeHost, caller, slow_slots
from support.programs import Programs
from support.remotes import describe
from support.serving import serving
from support.waiting import soon

from sshfs_plugin import errors, options
from sshfs_plugin.cli import status
from sshfs_plugin.discovery import docker
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.holders import Client
from sshfs_plugin.host import command, journal
from sshfs_plugin.http import api
from sshfs_plugin.options.remotes import Remotes
from sshfs_plugin.settings import Settings
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.volume import VolumeName

CURE = "systemctl enable --now docker-volume-sshfs.socket opens it"

SYSTEMCTL = """
printf 'Id=docker-volume-sshfs.socket\\nActiveState=active\\nSubState=running\\nLoadState=loaded\\n\\n'
printf 'Id=docker-volume-sshfs.service\\nActiveState=active\\nSubState=running\\nLoadState=loaded\\n\\n'
printf 'Id=docker-volume-sshfs@photos.service\\nActiveState=active\\nSubState=running\\nLoadState=loaded\\n'
"""


@pytest.fixture(autouse=True)
def systemctl(programs: Programs) -> Programs:
    """Run a systemd on which all is well."""
    programs.add("systemctl", SYSTEMCTL)
    return programs


@pytest.fixture
def service(driver: Driver, settings: Settings) -> Iterator[Driver]:
    """Serve a driver where the command looks for it."""
    settings.runtime.mkdir(parents=True)
    with serving(api.create_app(driver, slow_slots=slow_slots(), tell=lambda _: None), settings.socket):
        yield driver


def create(service: Driver, settings: Settings, name: str, **opts: str) -> None:
    """Create a volume that is on record, too."""
    given = {"sshcmd": SSHCMD, **opts}
    service.create(name, given, soon())
    settings.volumes.mkdir(parents=True, exist_ok=True)
    VolumeRecords(settings.volumes).save(options.parse(VolumeName(name), given, datetime.now(UTC)))


@contextmanager
def listening(settings: Settings, says: bytes | None) -> Iterator[None]:
    """Run something at the socket that answers this to everybody, or nothing at all."""
    settings.runtime.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(settings.socket))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                request = b""
                while not request.endswith(b"{}"):
                    request += connection.recv(4096)
                connection.sendall(says or b"")

        thread = threading.Thread(target=answer)
        if says is not None:
            thread.start()
        yield
        if says is not None:
            thread.join()


def test_manual_page_tells_when_a_service_is_given_up() -> None:
    page = Path(__file__).parents[3] / "docs/docker-volume-sshfs.8.rst"
    assert f"A service that does not answer is given up after {status.SERVICE_SECONDS:.0f} seconds." in page.read_text()


def test_status_without_volumes_says_so(administrator: Administrator, service: Driver) -> None:
    said = administrator("status")
    assert (said.code, said.err) == (0, "")
    assert said.lines == [
        "docker-volume-sshfs.socket: active (running)",
        "docker-volume-sshfs.service: active (running)",
        "There are no volumes.",
    ]


def test_status_is_a_table_of_volumes(administrator: Administrator, service: Driver, settings: Settings) -> None:
    create(service, settings, "photos")
    create(service, settings, "music", port="2222")
    service.mount("photos", ID, caller(Client.DOCKER), soon())
    said = administrator("status")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[2:] == [
        "NAME    STATE        HOLDERS  UNIT              REMOTE                    LAST ERROR",
        "music   not mounted  0        none              me@nas:/photos port 2222",
        "photos  mounted      1        active (running)  me@nas:/photos port 22",
    ]


def test_status_where_a_mount_is_silent_ends_with_one(
    administrator: Administrator, service: Driver, settings: Settings, host: FakeHost
) -> None:
    create(service, settings, "photos")
    service.mount("photos", ID, caller(Client.DOCKER), soon())
    host.supervisor.silent.add("photos")
    service.look_after(1)
    said = administrator("status")
    assert said.code == 1
    assert "photos  mounted, but the server does not answer  1 " in said.out


def test_status_where_containers_have_lost_their_volume_ends_with_one(
    administrator: Administrator, service: Driver, settings: Settings, host: FakeHost
) -> None:
    create(service, settings, "photos")
    service.mount("photos", ID, caller(Client.DOCKER), soon())
    host.supervisor.live.clear()
    said = administrator("status")
    assert said.code == 1
    assert "photos  not mounted, although containers hold it  1 " in said.out


def test_status_of_a_volume_of_a_remote_names_what_tells_the_rest(
    administrator: Administrator, service: Driver, settings: Settings, host: FakeHost
) -> None:
    remotes = Remotes.of(settings)
    describe(remotes, "host = nas.lan\npassword = hunter2\n")
    settings.volumes.mkdir(parents=True)
    given = {"remote": "nas", "directory": "/photos"}
    records = VolumeRecords.of(settings)
    records.save(options.parse(VolumeName("photos"), given, datetime.now(UTC), remotes))
    host.volumes.records |= records.load_all()
    service.load()
    for _ in ("with a good file", "with a wrong one"):
        said = administrator("status", "photos")
        assert (said.code, said.err) == (0, "")
        assert "remote:     nas:/photos\n" in said.out
        assert "host key:   see docker-volume-sshfs remote show nas\n" in said.out
        assert "options:    remote=nas, directory=/photos\n" in said.out
        assert "nas.lan" not in said.out
        describe(remotes, "hots = nas\n")


def test_status_where_a_record_can_not_be_used_ends_with_one_and_says_what(
    administrator: Administrator, service: Driver, settings: Settings, host: FakeHost
) -> None:
    settings.volumes.mkdir(parents=True)
    record = settings.volumes / "photos.json"
    record.write_text("{}")
    host.volumes.records |= VolumeRecords(settings.volumes).load_all()
    service.load()
    said = administrator("status")
    assert said.code == 1
    assert "photos  unusable  0        active (running)  unknown  volume 'photos' is unusable, its record " in said.out
    assert f"  volume 'photos' is unusable, its record {record} lacks 'version': mend it" in said.out
    one = administrator("status", "photos")
    assert one.code == 1
    assert "state:      unusable\n" in one.out
    for line in ("remote", "access", "host key", "created"):
        assert f"\n{line + ':':<12}unknown\n" in one.out
    answer = json.loads(administrator("status", "photos", "--json").out)
    assert (answer["volumes"][0]["state"], answer["volumes"][0]["options"]) == ("unusable", {})
    assert answer["volumes"][0]["optionsDigest"] == ""
    assert "its record" in answer["volumes"][0]["lastError"]


def test_status_asks_once_so_that_no_volume_can_go_between_two_questions(
    administrator: Administrator, settings: Settings
) -> None:
    said = {"state": "mounted", "since": "2024-05-17T12:30:00+00:00", "holders": 1}
    names = [f"photos{number}" for number in range(3)]
    answer = json.dumps({"Volumes": [{"Name": name, "Mountpoint": "", "Status": said} for name in names]}).encode()
    with listening(settings, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer)):
        asked = administrator("status", "--json")
    assert asked.code == 0, asked.err
    assert [volume["name"] for volume in json.loads(asked.out)["volumes"]] == names


def test_status_of_a_failure_that_is_over_says_what_it_was_and_ends_with_zero(
    administrator: Administrator, service: Driver, settings: Settings, host: FakeHost
) -> None:
    create(service, settings, "photos")
    host.supervisor.start_problems["photos"] = errors.MountFailed("sshfs could not mount it", "denied\x1b[2J\nby nas")
    with pytest.raises(errors.MountFailed):
        service.mount("photos", ID, caller(Client.DOCKER), soon())
    said = administrator("status")
    assert said.code == 0, "whether the next mount would fail is for check to find out"
    assert said.out.endswith("  sshfs could not mount it: denied?[2J?by nas\n")
    assert "last error: sshfs could not mount it: denied?[2J?by nas (20" in administrator("status", "photos").out


def test_status_of_one_volume_has_its_options_without_the_password(
    administrator: Administrator, service: Driver, settings: Settings
) -> None:
    create(service, settings, "photos", uid="1000", password="hunter2")
    service.mount("photos", ID, caller(Client.DOCKER), soon())
    said = Administrator(replace(settings, supervisor="systemd"))("status", "photos")
    assert (said.code, said.err) == (0, "")
    since = service.get("photos").since.isoformat(timespec="seconds")
    assert said.lines[:9] == [
        "name: photos",
        "remote: me@nas:/photos port 22",
        "state: mounted",
        f"since: {since} or longer",
        "mountpoint: /var/lib/docker-volume-sshfs/mounts/photos",
        "holders: 1",
        "unit: docker-volume-sshfs@photos.service, active (running)",
        "last error: none",
        "access: as owner, group and mode allow",
    ]
    assert said.lines[-3:] == [
        "options: sshcmd=me@nas:/photos, uid=1000, password=(not shown)",
        "its calls: journalctl -u docker-volume-sshfs VOLUME=photos",
        "its sshfs: journalctl -u docker-volume-sshfs@photos.service",
    ]
    assert "hunter2" not in said.out + administrator("status", "photos", "--json").out


def test_status_of_a_volume_without_systemd_names_other_logs_than_the_journal(
    administrator: Administrator, service: Driver, settings: Settings
) -> None:
    create(service, settings, "photos")
    assert administrator("status", "photos").lines[-2:] == [
        "its calls: what the service prints (a managed plugin's is in Docker's log)",
        f"its sshfs: {settings.logs}/photos",
    ]


def test_status_for_programs_has_the_same(administrator: Administrator, service: Driver, settings: Settings) -> None:
    create(service, settings, "photos", gid="100")
    service.mount("photos", ID, caller(Client.DOCKER), soon())
    said = administrator("status", "--json")
    assert (said.code, said.err) == (0, "")
    answer = json.loads(said.out)
    assert answer["units"] == {
        "docker-volume-sshfs.socket": "active (running)",
        "docker-volume-sshfs.service": "active (running)",
    }
    (volume,) = answer["volumes"]
    for moment in ("createdAt", "since"):
        assert datetime.fromisoformat(volume.pop(moment)).tzinfo
    assert volume == {
        "name": "photos",
        "mountpoint": "/var/lib/docker-volume-sshfs/mounts/photos",
        "remote": "me@nas:/photos port 22",
        "state": "mounted",
        "holders": 1,
        "access": "as owner, group and mode allow",
        "hostKey": "accept-new",
        "unit": "docker-volume-sshfs@photos.service",
        "unitState": "active (running)",
        "options": {"sshcmd": "me@nas:/photos", "gid": "100"},
        "optionsDigest": "9a1fb1666f645fb9",
    }
    one = json.loads(administrator("status", "photos", "--json").out)["volumes"]
    assert one[0]["options"] == {"sshcmd": "me@nas:/photos", "gid": "100"}


def digest(administrator: Administrator, name: str) -> str:
    return str(json.loads(administrator("status", name, "--json").out)["volumes"][0]["optionsDigest"])


def test_digest_of_options_is_the_same_where_they_mean_the_same_whatever_the_password(
    administrator: Administrator, service: Driver, settings: Settings
) -> None:
    create(service, settings, "one", uid="1000", gid="100", password="hunter2")
    create(service, settings, "same", gid="100", password="another", **{"o": "uid=1000"})
    create(service, settings, "other-owner", uid="1001", gid="100", password="hunter2")
    create(service, settings, "by-key", uid="1000", gid="100")
    assert digest(administrator, "one") == digest(administrator, "same")
    assert len({digest(administrator, name) for name in ("one", "other-owner", "by-key")}) == 3


NOT_FOUND = (
    "docker-volume-sshfs: volume 'photos' not found: docker volume ls shows whether another driver has a volume of "
    "that name\n"
)


def test_status_of_a_volume_that_is_not_there_ends_with_two(administrator: Administrator, service: Driver) -> None:
    said = administrator("status", "photos")
    assert (said.code, said.out, said.err) == (2, "", NOT_FOUND)


@pytest.mark.parametrize("words", [("",), ("", "--json")])
def test_status_of_an_empty_name_judges_no_other_volume(
    administrator: Administrator, photos: Settings, words: tuple[str, ...]
) -> None:
    """It is what a script's variable has that was never set."""
    said = administrator("status", *words)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("docker-volume-sshfs: volume '' not found: ")


def test_status_where_systemd_does_not_answer_knows_of_no_unit(
    administrator: Administrator, service: Driver, settings: Settings, systemctl: Programs
) -> None:
    create(service, settings, "photos")
    service.mount("photos", ID, caller(Client.DOCKER), soon())
    systemctl.add("systemctl", "echo 'Failed to connect to bus' >&2; exit 1")
    assert "photos  mounted  1        unknown  me@nas:/photos port 22" in administrator("status").out


def test_status_without_systemd_shows_what_the_service_says(
    administrator: Administrator, service: Driver, systemctl: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl.add("systemctl", "echo 'System has not been booted with systemd' >&2; exit 1")
    said = administrator("status")
    assert (said.code, said.out) == (0, "There are no volumes.\n")
    monkeypatch.setitem(command._ENVIRONMENT, "PATH", "/nowhere")
    assert administrator("status").out == "There are no volumes.\n"


def test_status_when_the_socket_is_closed_says_how_to_open_it(administrator: Administrator, settings: Settings) -> None:
    said = administrator("status", "--json")
    assert (said.code, said.out) == (3, "")
    assert said.err == f"docker-volume-sshfs: the plugin's socket {settings.socket} is closed: {CURE}\n"
    settings.runtime.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(settings.socket))
    assert administrator("status").code == 3


def test_status_when_the_service_has_failed_too_often_says_how_to_reset_it(
    administrator: Administrator, systemctl: Programs
) -> None:
    systemctl.add(
        "systemctl",
        "printf 'Id=docker-volume-sshfs.socket\\nActiveState=failed\\nSubState=failed\\nLoadState=loaded\\n'",
    )
    said = administrator("status")
    assert said.code == 3
    assert (
        "is closed, the service has failed too often: journalctl -u docker-volume-sshfs tells why; systemd opens the "
        "socket again within three minutes, and systemctl reset-failed 'docker-volume-sshfs*' && systemctl start "
        "docker-volume-sshfs.socket at once\n"
    ) in said.err


def test_status_when_the_socket_is_masked_says_that_it_is_unmasked_first(
    administrator: Administrator, systemctl: Programs, settings: Settings
) -> None:
    systemctl.add(
        "systemctl",
        "printf 'Id=docker-volume-sshfs.socket\\nActiveState=inactive\\nSubState=dead\\nLoadState=masked\\n'",
    )
    said = administrator("status")
    assert (said.code, said.err) == (
        3,
        f"docker-volume-sshfs: the plugin's socket {settings.socket} is closed, it is masked: systemctl unmask "
        f"docker-volume-sshfs.socket; {CURE}\n",
    )


def test_status_when_the_service_does_not_answer_gives_up(
    administrator: Administrator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "SERVICE_SECONDS", 0.1)
    with listening(settings, None):
        said = administrator("status")
    assert said.code == 3
    assert said.err == (
        "docker-volume-sshfs: the plugin's service does not answer: journalctl -u docker-volume-sshfs tells why\n"
    )


def test_status_where_there_is_no_journal_does_not_send_its_reader_there(
    administrator: Administrator, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(journal, "JOURNAL", tmp_path / "nowhere")
    monkeypatch.setattr(status, "SERVICE_SECONDS", 0.1)
    printed = "what the service prints (a managed plugin's is in Docker's log) tells why"
    assert administrator("status").err == (
        f"docker-volume-sshfs: the plugin's socket {settings.socket} is closed: start the service; {printed} it ended\n"
    )
    with listening(settings, None):
        said = administrator("status")
    assert (said.code, said.err) == (3, f"docker-volume-sshfs: the plugin's service does not answer: {printed}\n")


@pytest.mark.parametrize(
    ("says", "error"),
    [
        (b"", "the plugin's service broke off ("),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n<p>", "the plugin's service broke off ("),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "the plugin's service says: status 200"),
        (b'HTTP/1.1 500 No\r\nContent-Length: 13\r\n\r\n{"Err": "no"}', "the plugin's service says: no"),
    ],
)
def test_status_when_the_answer_is_none_ends_with_three(
    administrator: Administrator, settings: Settings, says: bytes, error: str
) -> None:
    with listening(settings, says):
        said = administrator("status")
    assert said.code == 3
    assert said.err.startswith(f"docker-volume-sshfs: {error}")
    assert said.err.count("\n") == 1


LISTENING_ELSEWHERE = (
    SYSTEMCTL
    + """
case $* in *Listen*) echo 'Listen=/run/elsewhere/sshfs.sock (Stream)'; echo 'Listen=127.0.0.1:9443 (Stream)' ;; esac
"""
)


def test_status_asks_the_service_where_its_socket_listens(administrator: Administrator, programs: Programs) -> None:
    programs.add("systemctl", LISTENING_ELSEWHERE)
    assert (
        administrator("status").err
        == f"docker-volume-sshfs: the plugin's socket /run/elsewhere/sshfs.sock is closed: {CURE}\n"
    )


@pytest.fixture
def photos(service: Driver, settings: Settings) -> Settings:
    """Serve a volume."""
    create(service, settings, "photos")
    return settings


@pytest.mark.parametrize("words", [("status",), ("status", "photos"), ("status", "--json")])
def test_status_tells_what_docker_finds_in_place_of_this_plugin(
    administrator: Administrator,
    photos: Settings,
    programs: Programs,
    words: tuple[str, ...],
) -> None:
    programs.add("systemctl", f"{SYSTEMCTL}echo 'Listen={photos.socket} (Stream)'")
    spec = photos.root / "etc/docker/plugins/sshfs.spec"
    spec.parent.mkdir(parents=True)
    spec.write_text("unix:///run/other.sock")
    said = administrator(*words)
    assert said.code == 1
    assert said.err == (
        f"Docker calls unix:///run/other.sock, by {spec}, and not this plugin: remove that, and restart Docker\n"
    )
    spec.write_text(f"unix://{photos.socket}")
    assert (administrator(*words).code, administrator(*words).err) == (0, "")


@pytest.mark.parametrize("words", [("status",), ("status", "photos"), ("status", "--json")])
def test_status_tells_that_docker_finds_no_plugin_at_all(
    administrator: Administrator, photos: Settings, programs: Programs, words: tuple[str, ...]
) -> None:
    programs.add("systemctl", f"{SYSTEMCTL}echo 'Listen={photos.socket} (Stream)'")
    link = photos.root / "etc/docker/plugins/sshfs.spec"
    said = administrator(*words)
    assert said.code == 1
    assert said.err == f"Docker can't find the plugin, {link} is missing: ln -s {photos.spec} {link}\n"
    link.parent.mkdir(parents=True)
    link.symlink_to(photos.spec)
    said = administrator(*words)
    assert said.code == 1
    assert said.err == (
        f"Docker can't find the plugin, {photos.spec} is missing: "
        "systemctl restart docker-volume-sshfs.socket writes it\n"
    )
    photos.spec.write_text(f"unix://{photos.socket}")
    assert (administrator(*words).code, administrator(*words).err) == (0, "")


def test_status_without_the_certificates_that_docker_uses_says_which_file_to_look_at(
    administrator: Administrator, programs: Programs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs.add("systemctl", "echo 'Listen=127.0.0.1:9443 (Stream)'")
    missing = docker.TLS(authority=tmp_path / "ca.pem", certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    found = docker.Found(file=tmp_path / "sshfs.json", address="https://127.0.0.1:9443", tls=missing)
    monkeypatch.setattr(docker, "find", lambda _root: found)
    said = administrator("status")
    assert said.code == 3
    assert said.err == (
        "docker-volume-sshfs: cannot use the certificates for https://127.0.0.1:9443 (No such file or directory): "
        "the .json file that Docker reads names the certificates, see ways-in.md in "
        "/usr/share/doc/docker-volume-sshfs\n"
    )
