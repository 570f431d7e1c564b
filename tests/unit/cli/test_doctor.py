# SPDX-License-Identifier: MIT
"""docker-volume-sshfs doctor: each fault of a host is named together with its cure, and nothing is changed."""

import json
import os
import shlex
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.administrator import Administrator, Said
from support.certificates import signed
from support.clients import ID, PODMAN_ID, SSHCMD
from support.driver import FakeHost, create, mount, slow_slots
from support.kernel import FakeKernel
from support.programs import Programs
from support.remotes import NAS, describe
from support.serving import answering, serving
from support.ssh_keys import write_key
from support.waiting import LIMIT_SECONDS, soon
from werkzeug.serving import make_server

from sshfs_plugin import errors, options
from sshfs_plugin.cli.doctor import engines
from sshfs_plugin.cli.doctor import host as this_host
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.holders import Client
from sshfs_plugin.host import command
from sshfs_plugin.http import api
from sshfs_plugin.mounts.processes import ProcessSupervisor
from sshfs_plugin.options.remotes import Remotes
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.credentials import Keyring, Login
from sshfs_plugin.state.records import HolderRecords, VolumeRecords
from sshfs_plugin.volume import Credentials, VolumeName

SYSTEMCTL = """
case "$*" in
*Listen*) cat "$HERE/listen" "$HERE/enabled" "$HERE/states/$3" ;;
*Id,*) shift 2; cd "$HERE/states" && cat $* ;;
esac
"""


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Let systemd keep the volumes."""
    monkeypatch.setattr("sshfs_plugin.mounts.supervisors.ProcessSupervisor", None)
    settings = Settings.from_environment({**settings.environment(), "SSHFS_PLUGIN_SUPERVISOR": "systemd"})
    for directory in (settings.runtime, settings.volumes, settings.mounts, settings.configuration):
        directory.mkdir(parents=True, exist_ok=True)
    return settings


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Give the names of the programs of this host, to which a test may add, or from which it may take."""
    there = {*this_host.PROGRAMS, "docker", "dpkg-query"}
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in there else None)
    return there


@pytest.fixture
def spec(settings: Settings) -> Path:
    """Give the link that Docker reads."""
    settings.spec.write_text(f"unix://{settings.socket}\n")
    link = settings.root / "etc/docker/plugins/sshfs.spec"
    link.parent.mkdir(parents=True)
    link.symlink_to(settings.spec)
    return link


@pytest.fixture(autouse=True)
def healthy(  # noqa: PLR0913 (a host has many parts)
    settings: Settings,
    programs: Programs,
    installed: set[str],
    spec: Path,
    fake_kernel: FakeKernel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Let all be well on this host."""
    programs.add("systemctl", SYSTEMCTL)
    (programs.directory / "listen").write_text(f"Listen={settings.socket} (Stream)\n")
    (programs.directory / "enabled").write_text("UnitFileState=enabled\n")
    units(programs)
    programs.add("docker", """echo '["local","sshfs"]'""")
    programs.add("dpkg-query", "echo 99")
    programs.add("dpkg", "exit 1")
    programs.add("timedatectl", "echo yes")
    monkeypatch.setattr(this_host, "FUSE", Path("/dev/null"))


def units(programs: Programs, **states: str) -> None:
    """Let there be the socket and the service, running, and others: ``active``, ``inactive masked``."""
    own = {"docker-volume-sshfs.socket": "active", "docker-volume-sshfs.service": "active", **states}
    directory = programs.directory / "states"
    directory.mkdir(exist_ok=True)
    for unit, state in own.items():
        active, _, loaded = state.partition(" ")
        facts = {"Id": unit, "ActiveState": active, "SubState": "x", "LoadState": loaded or "loaded"}
        (directory / unit).write_text("".join(f"{name}={text}\n" for name, text in facts.items()) + "\n")


@pytest.fixture(autouse=True)
def service(driver: Driver, settings: Settings, healthy: None) -> Iterator[Driver]:
    """Serve a driver at the socket."""
    with serving(api.create_app(driver, slow_slots=slow_slots(), tell=lambda _: None), settings.socket):
        yield driver


def record(settings: Settings, name: str, **opts: str) -> None:
    """Put a volume on record."""
    given = {"sshcmd": SSHCMD, **opts} if "remote" not in opts else opts
    volume = options.volume_of(VolumeName(name), given, datetime.now(UTC), Remotes.of(settings))
    VolumeRecords.of(settings).save(volume)


def wrong(said: Said) -> list[str]:
    """Return what is wrong, each with its cure."""
    lines = said.out.splitlines()
    pairs = zip(lines, [*lines[1:], ""], strict=True)
    return [f"{line} -> {cure.strip()}" for line, cure in pairs if line.startswith(("error", "warning"))]


def test_healthy_host_has_nothing_wrong(
    administrator: Administrator, service: Driver, settings: Settings, programs: Programs
) -> None:
    write_key(settings.default_key, "ed25519")
    describe(Remotes.of(settings))
    record(settings, "photos")
    settings.known_hosts.write_text("# mine\n\nnas ssh-ed25519 AAAA\n@cert-authority *.lan ssh-ed25519 AAAA\n")
    create(service)
    said = administrator("doctor")
    assert (said.code, said.err, wrong(said)) == (0, "", [])
    assert said.out.splitlines()[0] == f"fine    the socket is open, unix://{settings.socket}"
    assert "fine    the service answers, and has 1 volume\n" in said.out
    assert said.out.endswith("Nothing is wrong.\n")
    assert len(programs.calls("systemctl")) == 3, "of the socket, of all units and of Docker"


def test_programs_get_findings_with_their_codes(administrator: Administrator, programs: Programs) -> None:
    programs.add("timedatectl", "echo no")
    said = administrator("doctor", "--json")
    found = json.loads(said.out)["findings"]
    assert said.code == 0, "a warning is no error"
    assert [finding for finding in found if finding["level"] != "fine"] == [
        {
            "code": "clock-unsynchronised",
            "level": "warning",
            "what": "the clock is not synchronised with a server",
            "cure": "apt install systemd-timesyncd, unless this host has its time from elsewhere",
        }
    ]


def test_doctor_is_for_root(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    said = Administrator(settings)("doctor")
    assert (said.code, said.err.endswith("say sudo before the command\n")) == (2, True)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (
            "inactive",
            "error   docker-volume-sshfs.socket is closed, inactive (x) -> "
            "systemctl enable --now docker-volume-sshfs.socket",
        ),
        (
            "failed",
            "error   docker-volume-sshfs.socket is closed, since the service has failed too often -> "
            "journalctl -u docker-volume-sshfs tells why; then systemctl reset-failed 'docker-volume-sshfs*' && "
            "systemctl start docker-volume-sshfs.socket",
        ),
    ],
)
def test_closed_socket_is_told_once_although_the_spec_goes_with_it(
    administrator: Administrator, programs: Programs, settings: Settings, state: str, told: str
) -> None:
    units(programs, **{"docker-volume-sshfs.socket": state})
    settings.spec.unlink()
    said = administrator("doctor")
    assert (said.code, wrong(said)) == (1, [told])


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (
            "inactive masked",
            "error   docker-volume-sshfs.socket is closed, inactive (x), masked -> "
            "systemctl unmask docker-volume-sshfs.socket && systemctl enable --now docker-volume-sshfs.socket",
        ),
        (
            "failed masked",
            "error   docker-volume-sshfs.socket is closed, since the service has failed too often -> "
            "journalctl -u docker-volume-sshfs tells why; then systemctl unmask docker-volume-sshfs.socket && "
            "systemctl reset-failed 'docker-volume-sshfs*' && systemctl start docker-volume-sshfs.socket",
        ),
        (
            "active masked",
            "warning docker-volume-sshfs.socket is open, but will not be after the next boot -> "
            "systemctl unmask docker-volume-sshfs.socket && systemctl enable docker-volume-sshfs.socket",
        ),
        (
            "inactive not-found",
            "error   docker-volume-sshfs.socket is closed, unknown to systemd -> "
            "systemctl enable --now docker-volume-sshfs.socket",
        ),
    ],
)
def test_socket_that_is_masked_is_unmasked_first(
    administrator: Administrator, programs: Programs, state: str, told: str
) -> None:
    units(programs, **{"docker-volume-sshfs.socket": state})
    (programs.directory / "enabled").write_text("UnitFileState=disabled\n")
    assert wrong(administrator("doctor")) == [told]


def test_service_that_is_masked(administrator: Administrator, programs: Programs) -> None:
    units(programs, **{"docker-volume-sshfs.service": "inactive masked"})
    assert wrong(administrator("doctor")) == [
        "error   docker-volume-sshfs.service is masked, so it can't be started -> "
        "systemctl unmask docker-volume-sshfs.service"
    ]


def test_socket_that_the_next_boot_does_not_open(administrator: Administrator, programs: Programs) -> None:
    (programs.directory / "enabled").write_text("UnitFileState=disabled\n")
    said = administrator("doctor")
    assert (said.code, wrong(said)) == (
        0,
        [
            "warning docker-volume-sshfs.socket is open, but will not be after the next boot -> "
            "systemctl enable docker-volume-sshfs.socket"
        ],
    )


def test_service_that_does_not_answer(
    administrator: Administrator, settings: Settings, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sshfs_plugin.cli.doctor.service.SERVICE_SECONDS", 0.2)
    silent = settings.runtime / "silent.sock"
    (programs.directory / "listen").write_text(f"Listen={silent} (Stream)\n")
    settings.spec.write_text(f"unix://{silent}\n")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(silent))
        listener.listen()
        said = administrator("doctor")
    assert (said.code, wrong(said)) == (
        1,
        ["error   the plugin's service does not answer -> journalctl -u docker-volume-sshfs tells why"],
    )


def test_port_that_every_user_of_this_host_may_call_and_one_that_asks_for_certificates(
    administrator: Administrator, service: Driver, settings: Settings, programs: Programs, tmp_path: Path
) -> None:
    application = api.create_app(service, slow_slots=slow_slots(), tell=lambda _: None)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    where = f"127.0.0.1:{server.server_port}"
    warning = (
        f"warning every user of this host can call the service at tcp://{where}, and so act as root -> "
        "ways-in.md in /usr/share/doc/docker-volume-sshfs tells how to ask for certificates there"
    )
    with answering(server):
        (programs.directory / "listen").write_text(f"Listen={settings.socket} (Stream)\nListen={where} (Stream)\n")
        assert wrong(administrator("doctor")) == [warning], "beside the unix socket"
        (programs.directory / "listen").write_text(f"Listen={where} (Stream)\n")
        settings.spec.write_text(f"tcp://{where}\n")
        assert wrong(administrator("doctor")) == [warning]
    server = make_server("127.0.0.1", 0, application, threaded=True, ssl_context=signed(tmp_path / "tls"))
    where = f"127.0.0.1:{server.server_port}"
    (programs.directory / "listen").write_text(f"Listen={where} (Stream)\n")
    settings.spec.unlink()
    files = {"CAFile": "ca.pem", "CertFile": "cert.pem", "KeyFile": "key.pem"}
    told = {name: str(tmp_path / "tls" / file) for name, file in files.items()}
    described = {"Name": "sshfs", "Addr": f"https://{where}", "TLSConfig": told}
    (settings.root / "etc/docker/plugins/sshfs.json").write_text(json.dumps(described))
    with answering(server):
        assert wrong(administrator("doctor")) == []


def test_volumes_that_are_not_well_and_one_that_has_failed(
    administrator: Administrator, service: Driver, host: FakeHost, settings: Settings, programs: Programs
) -> None:
    for name in ("photos", "music", "films", "books"):
        create(service, name)
        record(settings, name)
    for name in ("photos", "music", "films"):
        mount(service, name)
    host.supervisor.live.discard("photos")
    host.supervisor.devices["music"] = "0:99"
    host.supervisor.outages["films"] = ("the connection is lost", datetime.now(UTC))
    host.supervisor.start_problems["books"] = errors.MountFailed("sshfs could not mount volume 'books'")
    with pytest.raises(errors.MountFailed):
        mount(service, "books")
    found = [line for line in wrong(administrator("doctor")) if "volume '" in line]
    assert found == [
        "warning the last call for the volume 'books' has failed, sshfs could not mount volume 'books' -> "
        "to see whether it works now: docker-volume-sshfs check books",
        "error   the volume 'films' is mounted, but the server does not answer -> "
        "docker-volume-sshfs check films tells what is wrong with its server, and "
        "docker-volume-sshfs release --force films unmounts it if its containers can't be stopped",
        "error   the volume 'music' is mounted anew, and lost to containers that had it before -> "
        "restart them: docker ps --filter volume=music shows them",
        "error   the volume 'photos' is not mounted, although containers hold it -> "
        "restart them: docker ps --filter volume=photos shows them",
    ]


def test_volume_that_podman_s_containers_have_lost_is_mounted_again_only_when_all_of_them_are_stopped(
    administrator: Administrator, service: Driver, host: FakeHost, settings: Settings
) -> None:
    for name in ("photos", "music"):
        create(service, name)
        record(settings, name)
        mount(service, name, mount_id=PODMAN_ID, client=Client.PODMAN)
    mount(service, "photos")
    settings.holders.mkdir()
    for name, holders in host.holder_records.records.items():
        HolderRecords(settings.holders).save(name, holders)
    host.supervisor.live.discard("photos")
    host.supervisor.devices["music"] = "0:99"
    of_podman = "stop all of Podman's before you start one again: podman ps --filter volume={0} shows them"
    assert [line for line in wrong(administrator("doctor")) if "volume '" in line] == [
        "error   the volume 'music' is mounted anew, and lost to containers that had it before -> "
        + of_podman.format("music"),
        "error   the volume 'photos' is not mounted, although containers hold it -> "
        "restart them: docker ps --filter volume=photos shows them; " + of_podman.format("photos"),
    ]


def test_volume_that_could_not_be_unmounted(
    administrator: Administrator, service: Driver, host: FakeHost, settings: Settings
) -> None:
    create(service)
    record(settings, "photos")
    mount(service)
    host.supervisor.release_problems["photos"] = errors.UnmountFailed("it could not be unmounted", "the journal tells")
    service.unmount("photos", ID, soon())
    found = [line for line in wrong(administrator("doctor")) if "volume '" in line]
    assert found == [
        "warning nobody holds the volume 'photos', and it stays mounted, it could not be unmounted: the journal tells "
        "-> docker-volume-sshfs release photos tries again, with --force also if something uses it"
    ]


def test_units_that_have_failed_or_have_no_volume(
    administrator: Administrator, programs: Programs, settings: Settings, fake_kernel: FakeKernel
) -> None:
    record(settings, "photos")
    fake_kernel.mount(settings.mounts / "films")
    units(
        programs,
        **{
            "docker-volume-sshfs@photos.service": "active",
            "docker-volume-sshfs@films.service": "active",
            "docker-volume-sshfs@purged.service": "active",
            "docker-volume-sshfs-release.service": "failed",
        },
    )
    assert [line for line in wrong(administrator("doctor")) if ".service" in line] == [
        "warning docker-volume-sshfs-release.service has failed -> journalctl -u docker-volume-sshfs-release.service "
        "tells why; systemctl reset-failed docker-volume-sshfs-release.service lets it be forgotten",
        "warning docker-volume-sshfs@films.service runs, and there is no volume of that name -> "
        "docker-volume-sshfs release films unmounts it, if nothing uses it",
        "warning docker-volume-sshfs@purged.service runs, and there is no volume of that name -> "
        "systemctl stop docker-volume-sshfs@purged.service takes it away from the containers that go on using it",
    ]


def test_spec_that_is_shadowed_missing_or_leads_nowhere(
    administrator: Administrator, settings: Settings, spec: Path
) -> None:
    settings.spec.unlink()
    assert wrong(administrator("doctor")) == [
        f"error   Docker can't find the plugin, {settings.spec} is missing -> "
        "systemctl restart docker-volume-sshfs.socket writes it"
    ]
    spec.unlink()
    assert wrong(administrator("doctor")) == [
        f"error   Docker can't find the plugin, {spec} is missing -> ln -s {settings.spec} {spec}"
    ]
    spec.write_text("unix:///run/other.sock\n")
    said = administrator("doctor")
    assert (said.code, wrong(said)) == (
        1,
        [
            f"error   Docker calls unix:///run/other.sock, by {spec}, and not this plugin -> "
            "remove that, and restart Docker"
        ],
    )


def test_each_of_several_things_that_docker_finds_first_has_its_own_cure(
    administrator: Administrator, settings: Settings, spec: Path
) -> None:
    (spec.parent / "files.spec").symlink_to(settings.spec)
    for name in ("sshfs", "files"):
        config = settings.root / "var/lib/docker/plugins" / name / "config.json"
        config.parent.mkdir(parents=True)
        config.write_text(json.dumps({"plugin": {"Name": f"{name}:latest"}}))
    assert [line for line in wrong(administrator("doctor")) if "managed" in line] == [
        f"error   Docker uses the managed plugin {name}, and not this plugin -> "
        f"docker plugin rm -f {name}, and restart Docker"
        for name in ("sshfs", "files")
    ]


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (
            "echo 'Cannot connect to the Docker daemon' >&2; exit 1",
            "error   Docker can't be reached, Cannot connect to the Docker daemon -> "
            "systemctl start docker; journalctl -u docker tells why it does not run",
        ),
        (
            "echo '[\"local\"]'",
            "warning Docker answers, but has not taken the driver up, so Swarm would give it no task with a volume of "
            "it -> systemctl restart docker-volume-sshfs-activate.service, or use a volume",
        ),
        (
            "exec sleep 100",
            "error   Docker does not answer, docker did not end within 0 seconds -> systemctl status docker",
        ),
    ],
)
def test_docker_that_is_not_as_it_should_be(
    administrator: Administrator, programs: Programs, program: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "SECONDS", 0.3 if "sleep" in program else 30)
    programs.add("docker", program)
    assert wrong(administrator("doctor")) == [told]


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("inactive", "inactive (x) -> systemctl start docker"),
        ("failed", "failed (x) -> systemctl start docker"),
        ("deactivating", "deactivating (x) -> systemctl start docker"),
        ("inactive masked", "inactive (x), masked -> systemctl unmask docker.service; systemctl start docker"),
    ],
)
def test_docker_that_was_stopped_is_not_asked_since_that_would_start_it(
    administrator: Administrator, programs: Programs, installed: set[str], state: str, told: str
) -> None:
    units(programs, **{"docker.service": state})
    what = f"Docker is not running, docker.service is {told}; journalctl -u docker tells why it does not run"
    assert wrong(administrator("doctor")) == [f"error   {what}"]
    installed.add("podman")
    assert wrong(administrator("doctor")) == [f"warning {what}"]
    assert programs.calls("docker") == []


@pytest.mark.parametrize("state", ["inactive", "deactivating"])
def test_docker_that_its_open_socket_starts_is_neither_wrong_nor_asked(
    administrator: Administrator, programs: Programs, state: str
) -> None:
    units(programs, **{"docker.service": state, "docker.socket": "active"})
    said = administrator("doctor")
    assert (said.code, wrong(said)) == (0, [])
    assert "fine    Docker is not running, and docker.socket starts it at its first use\n" in said.out
    assert programs.calls("docker") == []


@pytest.mark.parametrize(
    ("docker", "socket"),
    [
        ("inactive", "inactive"),
        ("inactive", "failed"),
        ("inactive", "inactive not-found"),
        ("failed", "active"),
        ("inactive masked", "active"),
    ],
)
def test_docker_that_no_socket_could_start_is_wrong(
    administrator: Administrator, programs: Programs, docker: str, socket: str
) -> None:
    units(programs, **{"docker.service": docker, "docker.socket": socket})
    (told,) = wrong(administrator("doctor"))
    assert told.startswith("error   Docker is not running, docker.service is ")


@pytest.mark.parametrize("state", ["active", "activating", "reloading", "inactive not-found"])
def test_docker_that_runs_or_is_no_unit_is_asked(administrator: Administrator, programs: Programs, state: str) -> None:
    units(programs, **{"docker.service": state})
    assert "fine    Docker answers, and has taken the driver up\n" in administrator("doctor").out


def test_docker_without_its_command(administrator: Administrator, installed: set[str]) -> None:
    installed.discard("docker")
    installed.add("dockerd")
    said = administrator("doctor")
    assert (said.code, wrong(said)) == (
        0,
        [
            "warning Docker's own command is missing, so Docker can't be asked here, nor told of the driver when it "
            "starts -> apt install docker-cli"
        ],
    )


def test_podman_that_does_not_know_the_plugin_or_looks_elsewhere(
    administrator: Administrator, installed: set[str], settings: Settings
) -> None:
    installed.add("podman")
    assert wrong(administrator("doctor")) == [], "Docker is there"
    installed.discard("docker")
    told = f'[engine.volume_plugins]\nsshfs = "{settings.socket}"\n'
    elsewhere = '[engine.volume_plugins]\nsshfs = "/run/elsewhere.sock"\n'
    main = settings.root / "etc/containers/containers.conf"
    ours, later = (main.parent / "containers.conf.d" / name for name in ("10-docker-volume-sshfs.conf", "50-own.conf"))

    def cure(file: Path) -> str:
        return f'write into {file}: [engine.volume_plugins] and below it sshfs = "{settings.socket}"'

    assert wrong(administrator("doctor")) == [f"error   Podman does not know the plugin -> {cure(ours)}"]
    ours.parent.mkdir(parents=True)
    main.write_text(elsewhere)
    misled = "error   Podman looks for the plugin at /run/elsewhere.sock, where it is not -> "
    assert wrong(administrator("doctor")) == [misled + cure(main)]
    ours.write_text(told)
    assert wrong(administrator("doctor")) == []
    later.write_text(elsewhere)
    assert wrong(administrator("doctor")) == [misled + cure(later)]
    later.write_text(told)
    assert wrong(administrator("doctor")) == []
    installed.discard("podman")
    assert wrong(administrator("doctor")) == ["error   neither Docker nor Podman is installed -> apt install docker.io"]


def test_way_in_that_podman_cannot_use_is_told_where_there_is_no_docker(
    administrator: Administrator, installed: set[str], settings: Settings, programs: Programs
) -> None:
    installed.add("podman")
    (programs.directory / "listen").write_text("Listen=127.0.0.1:9345 (Stream)\n")
    settings.spec.write_text("tcp://127.0.0.1:9345\n")
    packaged = settings.root / "etc/containers/containers.conf.d/10-docker-volume-sshfs.conf"
    packaged.parent.mkdir(parents=True)
    packaged.write_text(f'[engine.volume_plugins]\nsshfs = "{settings.socket}"\n')

    def about_podman() -> list[str]:
        return [line for line in wrong(administrator("doctor")) if "Podman" in line]

    assert about_podman() == []
    installed.discard("docker")
    assert about_podman() == [
        "warning Podman can't use the plugin at tcp://127.0.0.1:9345, since it calls plugins by unix sockets alone -> "
        "ways-in.md in /usr/share/doc/docker-volume-sshfs tells the way back to one"
    ]


def test_file_of_podman_that_cannot_be_understood(
    administrator: Administrator, installed: set[str], settings: Settings
) -> None:
    installed.add("podman")
    file = settings.root / "etc/containers/containers.conf"
    file.parent.mkdir()
    for text, reason in (
        ('[engine.volume_plugins]\nsshfs = ["/run/sshfs.sock"]\n', "the path of sshfs is no text"),
        ("[engine", "Expected ']' at the end of a table declaration (at end of document)"),
    ):
        file.write_text(text)
        assert wrong(administrator("doctor")) == [
            f"error   Podman can't read {file} ({reason}) -> mend it: man containers.conf"
        ]


def test_managed_plugin_is_not_asked_for_an_engine_or_a_unit_that_it_cannot_see(  # noqa: PLR0913 (a host has many parts)
    administrator: Administrator,
    settings: Settings,
    service: Driver,
    programs: Programs,
    installed: set[str],
    spec: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sshfs_plugin.mounts.supervisors.ProcessSupervisor", ProcessSupervisor)
    for program in ("systemctl", "timedatectl", "docker"):
        programs.add(program, "exit 1")
    installed.discard("docker")
    spec.unlink()
    there = settings.root / "run/docker/plugins/sshfs.sock"
    there.parent.mkdir(parents=True)
    there.symlink_to(settings.socket)
    create(service)
    record(settings, "photos")
    inside = Settings.from_environment({**settings.environment(), "SSHFS_PLUGIN_SUPERVISOR": "process"})
    said = replace(administrator, settings=inside)("doctor")
    assert (said.code, said.err, wrong(said)) == (0, "", [])
    assert "fine    the service answers, and has 1 volume\n" in said.out
    assert said.out.endswith("Nothing is wrong.\n")
    assert programs.calls("docker") == []


def test_vieux_that_is_still_installed(administrator: Administrator, settings: Settings) -> None:
    config = settings.root / "var/lib/docker/plugins/0123/config.json"
    config.parent.mkdir(parents=True)
    mounts = [{"Destination": "/mnt/state", "Source": "/var/lib/docker/plugins/"}]
    plugin = {
        "Name": "vieux/sshfs:latest",
        "Config": {"Env": [], "Interface": {"Socket": "sshfs.sock"}},
        "Settings": {"Mounts": mounts},
    }
    config.write_text(json.dumps({"plugin": plugin}))
    assert wrong(administrator("doctor")) == [
        "warning the plugin vieux/sshfs is still installed, and has its own volumes -> "
        "docker-volume-sshfs import-vieux takes them over; then docker plugin rm -f vieux/sshfs"
    ]


def test_host_without_fuse_or_a_program(
    administrator: Administrator, installed: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuse = tmp_path / "fuse"
    monkeypatch.setattr(this_host, "FUSE", fuse)
    installed.discard("chattr")
    cure = "modprobe fuse; where this host is a container itself, its manager has to give it /dev/fuse"
    said = administrator("doctor")
    assert (said.code, wrong(said)) == (
        1,
        [
            f"error   nothing can be mounted, {fuse} can't be opened (No such file or directory) -> {cure}",
            "error   the program chattr is missing -> apt install --reinstall e2fsprogs",
        ],
    )
    fuse.touch()
    assert f"error   nothing can be mounted, {fuse} is no device -> {cure}" in wrong(administrator("doctor"))


def test_version_with_a_known_fault(administrator: Administrator, programs: Programs) -> None:
    programs.add("dpkg-query", "case $4 in sshfs) echo 3.7.3-1.1 ;; *) echo 99 ;; esac")
    programs.add("dpkg", 'test "$2" = 3.7.3-1.1')
    assert wrong(administrator("doctor")) == [
        "warning sshfs 3.7.3-1.1 has CVE-2026-47187 and CVE-2026-48711, which are mended in 3.7.3-1.2 -> "
        "apt update && apt install --only-upgrade sshfs"
    ]


def test_clock_before_this_version_was_made(administrator: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 86400.0)
    assert "error   the clock is wrong, it shows a time before this version -> timedatectl set-ntp true" in wrong(
        administrator("doctor")
    )


def test_key_that_others_can_read_is_told_once_with_its_volumes(
    administrator: Administrator, settings: Settings
) -> None:
    key = write_key(settings.configuration / "nas key", "ed25519")
    key.chmod(0o644)
    for name in ("photos", "music"):
        record(settings, name, IdentityFile=str(key))
    assert wrong(administrator("doctor")) == [
        f"error   cannot use the identity file {key}, ssh refuses it because other users can read it "
        f"(for music, photos) -> chmod 600 '{key}'"
    ]


def test_secret_that_is_not_seen_while_the_service_does_not_run(
    administrator: Administrator, settings: Settings, programs: Programs
) -> None:
    record(settings, "photos", secret="nas")
    missing = (
        f"error   cannot use the secret 'nas', neither {settings.credentials} nor {settings.secrets} has a file of "
        "that name (for photos) -> "
    )
    cure = f"put it into {settings.secrets}/nas, or let systemd hand it to the service as credentials.md says"
    assert wrong(administrator("doctor")) == [missing + cure]
    units(programs, **{"docker-volume-sshfs.socket": "inactive"})
    settings.socket.unlink()
    assert wrong(administrator("doctor"))[1:] == [
        f"{missing}if it is a credential of the service, which does not run, systemctl start docker-volume-sshfs; "
        f"else {cure}"
    ]


def test_key_of_a_jump_host_that_others_can_read_is_told_with_the_volumes_behind_it(
    administrator: Administrator, settings: Settings
) -> None:
    keys = [write_key(settings.configuration / name, "ed25519") for name in ("outer", "inner", "shared")]
    for key in keys:
        key.chmod(0o644)
    outer, inner, shared = keys
    describe(Remotes.of(settings), f"host = outer.lan\nIdentityFile = {outer}\n", name="outer")
    describe(Remotes.of(settings), f"host = inner.lan\nIdentityFile = {inner}\nProxyJump = outer\n", name="inner")
    describe(Remotes.of(settings), f"host = gate.lan\nIdentityFile = {shared}\n", name="gate")
    record(settings, "photos", ProxyJump="inner", password="hunter2")
    record(settings, "music", ProxyJump="gate", IdentityFile=str(shared))
    assert sorted(wrong(administrator("doctor"))) == sorted(
        f"error   cannot use the identity file {key}, ssh refuses it because other users can read it (for {volume}) "
        f"-> chmod 600 {key}"
        for key, volume in ((outer, "photos"), (inner, "photos"), (shared, "music"))
    )


def test_missing_files_to_log_in_with_are_told_with_who_names_them(
    administrator: Administrator, settings: Settings
) -> None:
    remotes, keys = Remotes.of(settings), "/nowhere/keys"
    describe(remotes, f"{NAS}IdentityFile = {keys}/nas\n")
    describe(remotes, f"{NAS}password_file = {keys}/backup\n", name="backup")
    describe(remotes, f"{NAS}password_file = {keys}/shared\n", name="used")
    describe(remotes, NAS, name="default")
    describe(remotes, f"{NAS}port = x\npassword_file = {keys}/other\n", name="wrong")
    record(settings, "photos", remote="used")
    record(settings, "music", IdentityFile=f"{keys}/music")
    told = [line.partition(" -> ")[0] for line in wrong(administrator("doctor")) if "remote 'wrong'" not in line]
    assert told == [
        f"error   cannot use the identity file {keys}/music, it does not exist (for music)",
        f"error   cannot use the password file {keys}/shared, it does not exist (for photos)",
        f"error   cannot use the password file {keys}/backup, it does not exist (for the remote 'backup')",
        f"error   cannot use the identity file {keys}/nas, it does not exist (for the remote 'nas')",
    ]


def test_option_that_contradicts_what_a_login_finds_hides_no_other_key(
    administrator: Administrator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def contradicted(_keyring: Keyring, credentials: Credentials) -> Login:
        raise errors.InvalidOption("IdentityFile", f"names {credentials.identity_file}, which is none")

    monkeypatch.setattr(Keyring, "login", contradicted)
    for name in ("music", "photos"):
        record(settings, name, IdentityFile=f"/keys/{name}")
    assert [line.partition(" -> ")[0] for line in wrong(administrator("doctor"))] == [
        f"error   option 'IdentityFile' names /keys/{name}, which is none (for {name})" for name in ("music", "photos")
    ]


def test_default_key_is_looked_at_before_there_is_a_volume(administrator: Administrator, settings: Settings) -> None:
    write_key(settings.default_key, "ed25519").chmod(0o644)
    assert wrong(administrator("doctor")) == [
        f"error   cannot use the identity file {settings.default_key}, ssh refuses it because other users can read it "
        f"-> chmod 600 {settings.default_key}"
    ]


def test_remote_that_others_can_read_and_the_volume_of_it(administrator: Administrator, settings: Settings) -> None:
    file = describe(Remotes.of(settings))
    record(settings, "photos", remote="nas")
    file.chmod(0o644)
    problem = f"remote 'nas' can't be used, {file} is open to users other than root"
    assert wrong(administrator("doctor")) == [
        f"error   {problem} -> chmod 600 {file}",
        f"error   the volume 'photos' can't be used, {problem} -> chmod 600 {file}",
    ]


def test_remote_whose_file_has_a_name_that_no_volume_can_say(administrator: Administrator, settings: Settings) -> None:
    file = describe(Remotes.of(settings), name="my nas")
    assert wrong(administrator("doctor")) == [
        f"error   remote 'my nas' can't be used, {file} has a name that no volume can say -> give it another, and use "
        "at least two letters, digits, '_', '.' and '-', and begin with a letter or digit"
    ]


def test_remote_without_a_volume_that_none_could_be_made_of(administrator: Administrator, settings: Settings) -> None:
    described = Remotes.of(settings)
    for name, text in (("backup", "user = bob\n"), ("films", "host = films.lan\nProxyJump = gone\n"), ("nas", NAS)):
        describe(described, text, name=name)
    describe(described, NAS + "uid = many\n", name="photos")
    assert wrong(administrator("doctor")) == [
        f"error   remote 'backup' can't be used, {described.file('backup')} lacks the option 'host' -> "
        "write host = NAME there",
        f"error   remote 'gone' can't be used, {described.file('gone')} does not exist -> "
        "docker-volume-sshfs remote list shows which there are",
        f"error   remote 'photos' can't be used, {described.file('photos')} is not valid (option 'uid' must be a "
        "number from 0 to 4294967294, not 'many'; id -u NAME tells that of a name) -> mend it, and it counts from the "
        "next mount",
    ]


def test_record_that_is_damaged_is_read_and_left(administrator: Administrator, settings: Settings) -> None:
    file = settings.volumes / "photos.json"
    file.write_text("{")
    unfinished = settings.volumes / ".unfinished-x"
    unfinished.touch()
    (told,) = wrong(administrator("doctor"))
    assert told.startswith(f"error   volume 'photos' is unusable, its record {file} can't be understood")
    assert "docker volume rm photos gives the volume up" in told
    assert (file.read_text(), unfinished.exists()) == ("{", True)


@pytest.mark.parametrize(
    ("given", "said", "it"),
    [
        ({"relay": "no"}, "relay=no", "that"),
        ({"reconnect": "no"}, "reconnect=no", "that"),
        ({"relay": "no", "reconnect": "no"}, "relay=no and reconnect=no", "those"),
    ],
)
def test_volume_without_the_relay(
    administrator: Administrator, settings: Settings, given: dict[str, str], said: str, it: str
) -> None:
    record(settings, "photos", **given)
    assert wrong(administrator("doctor")) == [
        f"warning the volume 'photos' has {said}: a read that a lost connection cuts off looks like the end of the "
        f"file (sshfs #224) -> docker volume rm photos, and create it without {it}"
    ]


def test_line_of_known_hosts_that_means_nothing(administrator: Administrator, settings: Settings) -> None:
    file = settings.known_hosts
    file.write_text("nas ssh-ed25519 AAAA\nfilm ssh-ed25519 \n")
    assert wrong(administrator("doctor")) == [
        f"warning {file} can't be understood in line 2, so a server there would be taken for a new one -> "
        f"sed -i 2d {file}"
    ]


def test_cure_of_several_lines_of_known_hosts_leaves_the_good_ones(
    administrator: Administrator, settings: Settings
) -> None:
    file = settings.known_hosts
    file.write_text("nas ssh-ed25519 AAAA\nfilm ssh-ed25519 \nbackup ssh-ed25519 AAAA\nmusic\nlast ssh-ed25519 AAAA\n")
    (told,) = wrong(administrator("doctor"))
    what, _, cure = told.partition(" -> ")
    assert what == f"warning {file} can't be understood in line 2, 4, so a server there would be taken for a new one"
    command.run(shlex.split(cure), seconds=LIMIT_SECONDS).check_returncode()
    assert [line.split()[0] for line in file.read_text().splitlines()] == ["nas", "backup", "last"]
    assert wrong(administrator("doctor")) == []


def test_mountpoint_and_mount_without_a_volume(
    administrator: Administrator, settings: Settings, fake_kernel: FakeKernel
) -> None:
    for name in ("empty", "films", "photos"):
        (settings.mounts / name).mkdir()
    record(settings, "photos")
    fake_kernel.mount(settings.mounts / "films")
    left = settings.mounts / "empty"
    assert wrong(administrator("doctor")) == [
        f"warning the mountpoint {left} is left over: there is no such volume, and nothing is mounted there -> "
        f"look what is in it; then chattr -i {left} && rmdir {left}",
        f"warning {settings.mounts}/films is mounted, and no volume has it -> "
        "docker-volume-sshfs release films, which leaves it if it is used",
    ]
    assert left.exists()


def test_connections_that_have_ended_hang_or_serve_nobody(administrator: Administrator, settings: Settings) -> None:
    for name in ("ended-1", "hangs-2", "unused-3", "used-4", "failed-5"):
        (settings.connections / name / "volumes").mkdir(parents=True)
    (settings.connections / "failed-5/failed").touch()  # it goes in a moment by itself
    (settings.connections / "hangs-2/hung").touch()
    for name in ("hangs-2", "used-4"):
        (settings.connections / name / "volumes/photos").touch()
    record(settings, "photos")
    for name in ("unused-3", "used-4"):
        os.utime(settings.connections / name / "volumes", (1, 1))
    listeners = []
    for name in ("hangs-2", "unused-3", "used-4"):
        listeners.append(socket.socket(socket.AF_UNIX))
        listeners[-1].bind(str(settings.connections / name / "socket"))
        listeners[-1].listen()
    found = wrong(administrator("doctor"))
    for listener in listeners:
        listener.close()
    unit = "systemctl stop docker-volume-sshfs-connection@"
    assert found == [
        f"warning of a shared connection that has ended, {settings.connections}/ended-1 is left -> "
        "systemctl restart docker-volume-sshfs.service removes it",
        f"warning a shared connection hangs, which photos uses -> {unit}hangs-2.service: whatever uses it connects "
        "by itself then",
        f"warning a shared connection stands that no volume uses -> {unit}unused-3.service",
    ]


def test_check_that_cannot_be_made_is_told_and_the_others_are_made(
    administrator: Administrator, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(this_host, "SECONDS", 0.3)
    programs.add("dpkg-query", "exec sleep 100")
    said = administrator("doctor")
    assert (said.code, wrong(said)) == (
        0,
        [
            "warning versions can't be looked at, dpkg-query did not end within 0 seconds -> "
            "is this host overloaded? try again"
        ],
    )
    assert "the clock is synchronised" in said.out


def test_check_that_meets_what_nobody_thought_of_is_told_and_the_others_are_made(
    administrator: Administrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sshfs_plugin.vieux.legacy.installed", lambda _root: ["vieux/sshfs"])
    said = administrator("doctor")
    assert (said.code, wrong(said)) == (
        0,
        [
            "warning vieux can't be looked at to its end, AttributeError: 'str' object has no attribute 'name' -> "
            "a mistake of this command: please report this line"
        ],
    )
    assert "the clock is synchronised" in said.out
