# SPDX-License-Identifier: MIT
"""The start and the end of the relay."""

import _signal  # type: ignore[import]  # the module "signal", which mypy knows, is several times as large
import os
import sys

from sshfs_plugin.relay.ssh import Ssh, process_at_other_end

SSHFS = 0
FIRST_OTHER_DESCRIPTOR, DESCRIPTORS = 3, 1024


def main() -> None:
    """Start ssh with our arguments, and relay until sshfs ends.

    The socket to sshfs is standard input. Settings are in the environment: SSHFS_PLUGIN_READ_TIMEOUT, in seconds, and
    SSHFS_PLUGIN_OUTAGE, the file to write while the connection is lost.
    """
    # sshfs is not to see the end of this process before its own: it would take the reads that wait for complete
    _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT})
    # else the socket to ssh would become standard error, and our words would go there
    while os.open("/dev/null", os.O_RDWR) < FIRST_OTHER_DESCRIPTOR:
        pass
    # with several connections sshfs leaves its ends of the other sockets open here
    os.closerange(FIRST_OTHER_DESCRIPTOR, DESCRIPTORS)
    command = ["/usr/bin/ssh", *sys.argv[1:]]
    ssh = Ssh(command, quiet=False)
    # the rest is loaded while ssh connects
    from sshfs_plugin.relay import outage
    from sshfs_plugin.relay.relay import CannotGoOn, Relay

    outage_file = os.environ.get("SSHFS_PLUGIN_OUTAGE", "")
    try:
        read_seconds = float(os.environ.get("SSHFS_PLUGIN_READ_TIMEOUT") or "inf")
        relay = Relay(ssh, command, sshfs=SSHFS, read_seconds=read_seconds, outage_file=outage_file)
        status = relay.run()
    except CannotGoOn as reason:
        _end_sshfs()
        outage.forget(outage_file)
        outage.say(f"{reason}: sshfs was ended, since any answer would have looked like the end of the file")
        sys.exit(1)
    except BaseException:
        _end_sshfs()
        raise
    sys.exit(status)


def _end_sshfs() -> None:
    sshfs = process_at_other_end(SSHFS)
    if sshfs > 1:
        try:
            os.kill(sshfs, _signal.SIGKILL)
        except ProcessLookupError:
            pass
