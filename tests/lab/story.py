# SPDX-License-Identifier: MIT
"""What must hold whichever way Docker finds the plugin: the calls of the protocol, and volumes in containers."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from .host import KEY, PACKAGE, Host

DOCKER = "application/vnd.docker.plugins.v1.2+json"


def tell_calls(
    host: Host,
    curl: Sequence[str],
    address: str,
    *,
    key: str = KEY,
    on_the_host: Callable[[str], str] = str,
) -> None:
    """Call the plugin as Docker does, by curl with these words, and see each kind of answer.

    Args:
        host: The machine.
        curl: The command with what it needs to get through.
        address: The URL in front of the calls.
        key: Where the plugin sees alice's key.
        on_the_host: What the host calls a mountpoint of the plugin.
    """

    def call(verb: str, **body: Any) -> tuple[int, dict[str, Any]]:
        words = [*curl, "-sS", "-X", "POST", "-H", f"Accept: {DOCKER}", "-w", "\n%{http_code}", f"{address}/{verb}"]
        said = host.machine.run(*words, *(("-d", json.dumps(body)) if body else ())).stdout
        text, _, status = said.rpartition("\n")
        return int(status), json.loads(text)

    assert call("Plugin.Activate") == (200, {"Implements": ["VolumeDriver"], "Err": ""})
    assert call("VolumeDriver.Capabilities")[1]["Capabilities"] == {"Scope": "local"}
    directory = host.directory("calls")
    opts = {"sshcmd": f"alice@localhost:{directory}", "IdentityFile": key}
    status, refused = call("VolumeDriver.Create", Name="calls", Opts={**opts, "uid": "bob"})
    why = "option 'uid' must be a number from 0 to 4294967294, not 'bob'; id -u NAME tells that of a name"
    assert (status, refused["Err"]) == (500, why)
    for _ in range(2):
        assert call("VolumeDriver.Create", Name="calls", Opts=opts) == (200, {"Err": ""})
    assert [listed["Name"] for listed in call("VolumeDriver.List")[1]["Volumes"] if listed["Name"] == "calls"]
    _, mounted = call("VolumeDriver.Mount", Name="calls", ID="one")
    assert host.machine.run("findmnt", on_the_host(mounted["Mountpoint"]))
    assert call("VolumeDriver.Path", Name="calls")[1]["Mountpoint"] == mounted["Mountpoint"]
    assert call("VolumeDriver.Get", Name="calls")[1]["Volume"]["Status"]["holders"] == 1
    assert call("VolumeDriver.Unmount", Name="calls", ID="one") == (200, {"Err": ""})
    assert call("VolumeDriver.Remove", Name="calls") == (200, {"Err": ""})
    assert call("VolumeDriver.Get", Name="calls")[0] == 500


def live_in_containers(host: Host, name: str, *, key: str = KEY, managed: bool = False) -> None:
    """Use a volume as people do: several containers, docker cp, a restart of the service, rm.

    Args:
        host: The machine.
        name: Of the volume.
        key: Where the plugin sees alice's key.
        managed: Whether it is the managed plugin, which has no service to restart.
    """
    machine, directory = host.machine, host.directory(name)
    refused = host.create(name, f"{directory}/missing", check=False, IdentityFile=key)
    assert f"the directory {directory}/missing does not exist on localhost for alice" in refused.stderr
    host.create(name, directory, IdentityFile=key)
    assert host.inspect(name)["Driver"] == ("sshfs:latest" if managed else "sshfs")
    host.run(name, "echo hello >/data/file")
    assert host.run(name, "cat /data/file").stdout == "hello\n"
    with host.writing(name, directory) as container:
        machine.run("docker", "cp", f"{container}:/data/file", "/root/copied")
        if not managed:
            machine.run("systemctl", "restart", PACKAGE)
        host.await_progress(directory)
        assert host.run(name, "cat /data/file").stdout == "hello\n"
        assert host.status(name)["holders"] == 1
    machine.until(lambda: bool(host.status(name)["state"] == "unmounted"))
    machine.run("docker", "volume", "rm", name)
    assert machine.read(f"{directory}/file") == "hello\n"
