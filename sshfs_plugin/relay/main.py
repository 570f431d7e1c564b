# SPDX-License-Identifier: MIT
"""The start and the end of the relay."""

import _signal  # type: ignore[import]  # the module "signal", which mypy knows, is several times as large
import os
import sys

from sshfs_plugin.relay import shared
from sshfs_plugin.relay.ssh import Connection, Ssh, process_at_other_end

SSHFS = 0
FIRST_OTHER_DESCRIPTOR, DESCRIPTORS = 3, 1024

GREETING_BYTES = 9
"""The length of sshfs's first packet, which says which version of SFTP it speaks."""


def main() -> None:
    """Start ssh with our arguments, and relay until sshfs ends.

    The socket to sshfs is standard input. Settings are in the environment: SSHFS_PLUGIN_READ_TIMEOUT, in seconds,
    SSHFS_PLUGIN_OUTAGE, the file to write while the connection is lost, SSHFS_PLUGIN_CONNECTION, the directory of a
    connection to share until it is lost, SSHFS_PLUGIN_LOGIN, a file that it has in common with the others that share
    it, SSHFS_PLUGIN_KEPT, for how many seconds attributes may be kept, and SSHFS_PLUGIN_DIRECTORY, the directory whose
    attributes sshfs will ask for first.
    """
    # sshfs is not to see the end of this process before its own: it would take the reads that wait for complete
    _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT})
    # else the socket to ssh would become standard error, and our words would go there
    while os.open("/dev/null", os.O_RDWR) < FIRST_OTHER_DESCRIPTOR:
        pass
    # with several connections sshfs leaves its ends of the other sockets open here
    os.closerange(FIRST_OTHER_DESCRIPTOR, DESCRIPTORS)
    sshfs = os.pidfd_open(process_at_other_end(SSHFS))  # its number may be another process's when it has ended
    command = ["/usr/bin/ssh", *sys.argv[1:]]
    connection = os.environ.get("SSHFS_PLUGIN_CONNECTION", "")
    try:
        session = shared.begin_session(command, connection)
    except shared.NotMade as why:
        sys.exit(str(why))
    ssh: Connection = session or Ssh(command, quiet=False)
    greeting = os.read(SSHFS, GREETING_BYTES) if session else b""
    kept_seconds = float(os.environ.get("SSHFS_PLUGIN_KEPT") or 0)
    directory = os.environb.get(b"SSHFS_PLUGIN_DIRECTORY", b"") if kept_seconds and greeting else b""
    ahead = shared.question_ahead(connection, directory)
    ssh.send(greeting + ahead)
    # the rest is loaded while ssh connects
    from sshfs_plugin.relay import outage
    from sshfs_plugin.relay.relay import CannotGoOn, Relay

    if session and greeting and not shared.has_begun(session, connection):
        session.end()
        outage.say("the connection that is shared takes no further session: the volume has a connection of its own")
        ssh, ahead = Ssh(command, quiet=False), b""
        ssh.send(greeting)
    files = outage.OutageFiles(os.environ.get("SSHFS_PLUGIN_OUTAGE", ""), os.environ.get("SSHFS_PLUGIN_LOGIN", ""))
    try:
        read_seconds = float(os.environ.get("SSHFS_PLUGIN_READ_TIMEOUT") or "inf")
        relay = Relay(ssh, command, sshfs=SSHFS, read_seconds=read_seconds, files=files)
        if kept_seconds:
            relay.keep_attributes(kept_seconds)
        if ahead:
            relay.note_asked_ahead(directory)
        status = relay.run()
    except CannotGoOn as reason:
        _end(sshfs)
        outage.unlink_if_there(files.outage)
        outage.say(f"{reason}: sshfs was ended, since any answer would have looked like the end of the file")
        sys.exit(1)
    except BaseException:
        _end(sshfs)
        raise
    sys.exit(status)


def _end(process: int) -> None:
    """End a process, given by a descriptor of it."""
    try:
        _signal.pidfd_send_signal(process, _signal.SIGKILL)
    except ProcessLookupError:
        pass
