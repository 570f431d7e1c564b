# SPDX-License-Identifier: MIT
"""An ssh process, and what it has started."""

import os
import select

from support.waiting import LIMIT_SECONDS

from sshfs_plugin.relay.ssh import Ssh


def test_ssh_when_it_is_ended_takes_along_what_it_has_started() -> None:
    """With a jump host it has started another ssh, which could wait for a lost server for long."""
    ssh = Ssh(["/bin/sh", "-c", "sleep 1000 & echo $!; wait"], quiet=False)
    assert select.select([ssh.descriptor], [], [], LIMIT_SECONDS)[0]
    child = os.pidfd_open(int(os.read(ssh.descriptor, 99)))
    try:
        assert ssh.end() == -9
        assert select.select([child], [], [], 5)[0], "it still runs"
    finally:
        os.close(child)
