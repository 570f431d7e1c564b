# SPDX-License-Identifier: MIT
"""The rung of SFTP: whether a login that has succeeded can have files."""

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.preflight.ssh import ANSWER_SECONDS, FAILURES, ended_at, paramiko, reason
from sshfs_plugin.volume import Remote


def open_sftp(transport: paramiko.Transport, remote: Remote, deadline: Deadline) -> paramiko.SFTPClient:
    """Start SFTP over a connection that is logged in.

    Raises:
        SFTPUnavailable: The server has no SFTP for this login.
    """
    seconds = max(0.1, deadline.left(ANSWER_SECONDS))
    try:
        channel = transport.open_session(timeout=seconds)
        channel.settimeout(seconds)
        # paramiko would wait without limit for the answer, unless the connection ends
        with ended_at(Deadline.after(seconds), transport):
            channel.invoke_subsystem("sftp")
        return paramiko.SFTPClient(channel)
    except FAILURES as error:
        raise errors.SFTPUnavailable(
            f"{remote.account} lets the login in but has no SFTP for it ({reason(error)})",
            "the server needs the line 'Subsystem sftp internal-sftp' in its sshd_config, and nothing in the "
            "login's start-up files may print",
        ) from error
