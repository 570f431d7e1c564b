# SPDX-License-Identifier: MIT
"""The start and the end of the relay."""

import os
import sys

from sshfs_plugin.relay.ssh import Ssh, process_at_other_end

SSHFS = 0


def main() -> None:
    """Start ssh with our arguments, and relay until sshfs ends.

    The socket to sshfs is standard input. Settings are in the environment: SSHFS_PLUGIN_READ_TIMEOUT, in seconds, and
    SSHFS_PLUGIN_OUTAGE, the file to write while the connection is lost.
    """
    command = ["/usr/bin/ssh", *sys.argv[1:]]
    ssh = Ssh(command, quiet=False)
    # the rest is loaded while ssh connects
    from sshfs_plugin.relay import outage
    from sshfs_plugin.relay.relay import CannotGoOn, Relay

    try:
        relay = Relay(
            ssh,
            command,
            sshfs=SSHFS,
            read_seconds=float(os.environ.get("SSHFS_PLUGIN_READ_TIMEOUT") or "inf"),
            outage_file=os.environ.get("SSHFS_PLUGIN_OUTAGE", ""),
        )
        sys.exit(relay.run())
    except CannotGoOn as reason:
        os.kill(process_at_other_end(SSHFS), 9)
        outage.say(f"{reason}: sshfs was ended, since any answer would have looked like the end of the file")
        sys.exit(1)
    except Exception:
        os.kill(process_at_other_end(SSHFS), 9)  # for the same reason
        raise
