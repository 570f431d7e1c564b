# SPDX-License-Identifier: MIT
"""The life of one volume, as Docker and a user see it."""

from datetime import datetime
from pathlib import Path

from support.clients import DockerClient
from support.driver import FakeHost, slow_slots
from support.serving import serving

from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.http import api
from sshfs_plugin.settings import Settings
from sshfs_plugin.state.records import HolderRecords, VolumeRecords

WEB, BACKUP = "4f61b677" * 8, "9c0e5d12" * 8
OPTS = {"sshcmd": "me@nas:/photos", "port": "2222"}


def test_the_life_of_a_volume(host: FakeHost, settings: Settings, tmp_path: Path) -> None:
    def start_plugin() -> Driver:
        """Start the plugin on the files that the last one left."""
        driver = Driver(
            volumes=VolumeRecords(settings.volumes),
            holder_records=HolderRecords(settings.holders),
            preflight=host.real_preflight,
            supervisor=host.real_supervisor,
        )
        driver.load()
        return driver

    said: list[str] = []
    mountpoint = str(host.supervisor.root / "photos")

    first = tmp_path / "first.sock"
    with serving(api.create_app(start_plugin(), slow_slots=slow_slots(), tell=said.append), first):
        docker = DockerClient(first)
        assert docker.activate().body["Implements"] == ["VolumeDriver"]

        # docker volume create -d sshfs -o sshcmd=me@nas:/photos -o port=2222 photos
        assert docker.get("photos").error == "volume 'photos' not found"
        assert docker.create("photos", OPTS).error == ""
        assert said[-1] == "1 volume, 0 mounted"

        # the same again, as after a lost reply; then another volume by mistake
        assert docker.create("photos", OPTS).error == ""
        assert docker.create("photos", {**OPTS, "sshcmd": "me@nas:/films"}).error == (
            "volume 'photos' exists already and differs in 'sshcmd': "
            "to change it, docker volume rm photos first: files on the server stay as they are"
        )

        # docker volume ls; docker volume inspect photos
        assert docker.list_names() == ["photos"]
        volume = docker.get("photos").body["Volume"]
        assert (volume["Name"], volume["Mountpoint"]) == ("photos", "")
        assert datetime.fromisoformat(volume["Status"].pop("since")).tzinfo
        assert volume["Status"] == {
            "remote": "me@nas:/photos port 2222",
            "state": "unmounted",
            "holders": 0,
            "access": "as owner, group and mode allow",
            "hostKey": "accept-new",
            "unit": "docker-volume-sshfs@photos.service",
        }

        # docker run -v photos:/data web; docker run -v photos:/data backup
        assert docker.mount("photos", WEB).body["Mountpoint"] == mountpoint
        assert docker.mount("photos", BACKUP).body["Mountpoint"] == mountpoint
        assert host.supervisor.started == ["photos"]
        assert said[-1] == "1 volume, 1 mounted"

        # docker cp web:/data/a.jpg .
        assert docker.mount("photos", WEB).body["Mountpoint"] == mountpoint
        assert docker.unmount("photos", WEB).error == ""
        status = docker.get("photos").body["Volume"]["Status"]
        assert (status["state"], status["holders"]) == ("mounted", 2)

    # systemctl restart docker-volume-sshfs: containers keep their files, and Docker does not even notice
    second = tmp_path / "second.sock"
    with serving(api.create_app(start_plugin(), slow_slots=slow_slots(), tell=said.append), second):
        docker = DockerClient(second)
        assert docker.get("photos").body["Volume"]["Mountpoint"] == mountpoint
        assert docker.list_names() == ["photos"]

        # docker stop backup
        assert docker.unmount("photos", BACKUP).error == ""
        assert host.supervisor.live == {"photos"}

        # docker volume rm photos, while web still runs: what Docker would stop, the kernel stops as well
        host.supervisor.used.add("photos")
        assert docker.remove("photos").error == (
            "volume 'photos' is still in use by a running container or a process on this host: stop it and try again"
        )
        host.supervisor.used.clear()

        # docker stop web
        assert docker.unmount("photos", WEB).error == ""
        assert host.supervisor.live == set()
        assert said[-1] == "1 volume, 0 mounted"

        # docker volume rm photos
        assert docker.remove("photos").error == ""
        assert docker.list_names() == []
        assert docker.get("photos").error == "volume 'photos' not found"
        assert said[-1] == "0 volumes, 0 mounted"

    assert list(settings.volumes.iterdir()) == list(settings.holders.iterdir()) == []
