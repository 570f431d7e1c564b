# SPDX-License-Identifier: MIT
"""What the plugin answers, held against the written description of its calls.

The requests are made at random from the description by a generator of our own, since schemathesis is not in Debian.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support import description, wild
from support.clients import ID, SSHCMD, DockerClient, parse_reply, read_all
from support.long import normally
from support.service import BLOCKS_TOLD, TOLD, Service, Size, settings_below, size_of, started
from support.waiting import Background

from sshfs_plugin.driver.values import Condition
from sshfs_plugin.http import api
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.volume import _NAME, LONGEST_NAME, Unusable

REQUESTS = normally(500, 100_000)
SEED = 20261126
SECONDS_EACH = 0.05
MOST_BYTES_MORE = 20 << 20
"""A long run took up to 8 MB, and 13 on a host with much else to do: the allocator of each thread fills up, while
Python has no more objects.
"""
MOST_BLOCKS_IN_A_QUARTER = normally(1000, 500)
"""Of Python's memory, of up to 512 bytes each: so small a leak is lost in what the allocator takes and gives back.

A long run took none; one object of each of its last 25,000 requests would be as many. In a short one much is done for
the first time.
"""


def test_every_call_is_described_and_no_other() -> None:
    assert set(description.calls()) == set(api.ROUTES)


def test_what_is_said_of_names_and_states_is_what_the_code_says() -> None:
    schemas = description.DESCRIPTION["components"]["schemas"]
    assert schemas["Name"]["pattern"] == f"^{_NAME.pattern[:-1]}{{1,{LONGEST_NAME - 1}}}$"
    assert schemas["Volume"]["properties"]["Status"]["properties"]["state"]["enum"] == list(Condition)


def as_described(docker: DockerClient, call: str, **body: object) -> int:
    """Make a call, see that its answer is as described, and return the status."""
    reply = docker.send(call, body or None)
    assert description.faults_of_answer(call, reply) == []
    return reply.status


def test_the_life_of_a_volume_is_as_described(docker: DockerClient) -> None:
    photos: dict[str, object] = {"Name": "photos"}
    held: dict[str, object] = {**photos, "ID": ID}
    story: tuple[tuple[str, dict[str, object]], ...] = (
        ("Plugin.Activate", {}),
        ("VolumeDriver.Capabilities", {}),
        ("VolumeDriver.Create", {**photos, "Opts": {"sshcmd": SSHCMD}}),
        ("VolumeDriver.Mount", held),
        ("VolumeDriver.Path", photos),
        ("VolumeDriver.Get", photos),
        ("VolumeDriver.List", {}),
        ("VolumeDriver.Unmount", held),
        ("VolumeDriver.Remove", photos),
        ("Service.Counters", {}),
    )
    for call, body in story:
        assert as_described(docker, call, **body) == 200, call
        if "Name" in body:
            assert as_described(docker, call, Name="films", ID=ID, Opts={"sshcmd": "nas"}) == 500, call


def sent(docker: DockerClient, raw: bytes) -> bytes:
    """Send bytes, of which the service may not want to read all, and return what it answers."""
    with docker.connect() as connection:
        with suppress(BrokenPipeError):
            connection.sendall(raw)
        return read_all(connection)


def make(service: Service, seed: int, count: int) -> None:
    """Make so many requests of a seed, and see that each answer is as described."""
    requests = wild.Wild(seed)
    for number in range(count):
        conforms(service.docker, requests, f"request {number} of seed {seed}")


def conforms(docker: DockerClient, requests: wild.Wild, which: str) -> None:
    """Make the next request, and see that its answer is as described."""
    request = requests.request()
    reply = parse_reply(sent(docker, request.raw))
    what = f"{which}, {request.raw[:2000]!r}"
    if reply is None:
        assert request.closes, f"no answer to {what}"
        return
    assert description.faults_of_answer(request.call, reply) == [], what
    assert api.INTERNAL_ERROR not in reply.text, what


FAILING = """
echo no server >&2
exit 1
"""

MOUNTING = """
case $2 in
*[05])
    echo no server >&2
    exit 1
    ;;
esac
[ "$1" = keep ] || exit 0
exec 9>"$PROC/lock"
flock 9
mkdir -p "$SSHFS_PLUGIN_MOUNTS/$2"
on="$SSHFS_PLUGIN_MOUNTS/$2 "
grep -qF "$on" "$PROC/self/mountinfo" ||
    echo "36 35 0:$$ / ${on}rw shared:7 - fuse.sshfs me@nas:/photos rw" >>"$PROC/self/mountinfo"
echo answered 1<>"$SSHFS_PLUGIN_RUNTIME/mounts/$2/told"
"""
"""In place of what keeps a volume: most are mounted, as far as the table of mounts shows."""

RELEASING = """
exec 9>"$PROC/lock"
flock 9
for request in "$SSHFS_PLUGIN_RUNTIME/releases"/*; do
    [ -e "$request" ] || exit 0
    mountpoint="$SSHFS_PLUGIN_MOUNTS/${request##*/}"
    grep -vF "$mountpoint " "$PROC/self/mountinfo" >"$PROC/new"
    mv "$PROC/new" "$PROC/self/mountinfo"
    ! [ -d "$mountpoint" ] || rmdir "$mountpoint"
    rm -f "$request"
done
"""
"""In place of the release program: nothing is in use."""

OTHER_PROC = """
from sshfs_plugin.mounts import mountinfo
mountinfo._PROC = Path("{proc}")
"""
"""For gunicorn's configuration: the table of mounts is that which these programs write."""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Give a service under gunicorn, in which a mount fails or is done at once."""
    monkeypatch.delenv("COV_CORE_SOURCE", raising=False)  # what notes the coverage grows with each new path
    settings, proc = settings_below(tmp_path), tmp_path / "proc"
    for directory in (settings.libexec, settings.home, proc, proc / "self"):
        directory.mkdir()
    (proc / "self/mountinfo").touch()
    for name, text in (("volume", MOUNTING), ("connection", FAILING), ("release", RELEASING)):
        program = settings.libexec / name
        program.write_text(f"#!/bin/sh\nPROC='{proc}'\n{text}")
        program.chmod(0o755)
    (tmp_path / "told.py").write_text(TOLD + BLOCKS_TOLD + OTHER_PROC.format(proc=proc))
    with started(tmp_path, str(tmp_path / "told.py")) as service:
        yield service


@pytest.mark.timeout(300 + REQUESTS * SECONDS_EACH)
def test_every_answer_to_random_requests_is_as_described_and_nothing_grows(
    service: Service, in_background: Background
) -> None:
    warm, quarter = REQUESTS // 2, REQUESTS // 4  # until gunicorn 27 has all the memory that it needs
    clients = range(service.settings.threads)  # each thread of the service has its own memory, which is not given back
    for warmed in [in_background(make, service, SEED + client, warm // len(clients)) for client in clients]:
        warmed.result()
    before = size_at_rest(service)
    make(service, SEED + len(clients), quarter)
    between, blocks_between = size_at_rest(service), service.blocks()
    make(service, SEED + len(clients) + 1, quarter)
    after, blocks = size_at_rest(service), service.blocks()
    print(  # noqa: T201 (pytest -s shows it)
        f"{REQUESTS} requests: {before} after {warm}, {between} with {blocks_between} blocks after {quarter} more,"
        f" {after} with {blocks} at the end"
    )
    assert after.descriptors <= before.descriptors
    assert after.threads <= before.threads
    assert after.memory <= before.memory + MOST_BYTES_MORE
    assert blocks <= blocks_between + MOST_BLOCKS_IN_A_QUARTER
    assert "Traceback" not in service.log
    mounts = service.docker.send("Service.Counters", None).body["Counters"]["mounts"]["count"]
    assert mounts >= normally(0, 100), "hardly a Mount has succeeded"


def size_at_rest(service: Service) -> Size:
    """Return the size of the service without volumes; the next process could have read all that there were."""
    records = VolumeRecords(service.settings.volumes).load_all()
    assert sorted(records) == service.docker.list_names()
    assert [record for record in records.values() if isinstance(record, Unusable)] == []
    for name in service.docker.list_names():
        assert service.docker.remove(name).status == 200
    return size_of(service.worker)
