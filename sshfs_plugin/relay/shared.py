# SPDX-License-Identifier: MIT
"""A session on the connection that a volume shares with others (docs/how-it-works.md, "Shared connections")."""

import os
from select import select
from time import monotonic

from sshfs_plugin.relay.ssh import Ssh

MAKING_SECONDS = 50.0
"""How long to wait for a connection that is just being made."""

SESSION_SECONDS = 2.0
"""How long a session may take to begin; then the connection counts as hung, and no other volume waits for it.

It is short, since Podman waits for a Mount for 4.5 seconds.
"""

LOOK_SECONDS = 0.005


class NotMade(Exception):
    """The connection could not be made; a login by ourselves would be refused as well, and count with the server."""


def begin_session(command: list[str], directory: str) -> Ssh | None:
    """Start an ssh that asks a shared connection for a session; return None if the connection has ended.

    Where the connection takes no session, this ssh ends.

    Args:
        command: What starts an ssh with a connection of its own.
        directory: That of the shared connection; empty for none.

    Raises:
        NotMade: It was being made.
    """
    socket = f"{directory}/socket"
    if not directory or not _await(socket, f"{directory}/making"):
        return None
    # with another proxy ssh would make a connection of its own, and nobody would know what became of the session
    return Ssh([command[0], f"-oControlPath={socket}", "-oProxyCommand=false", *command[1:]], quiet=True)


def has_begun(ssh: Ssh, directory: str) -> bool:
    """Wait for the server's answer to the first packet; tell whether it has come."""
    if select((ssh.descriptor,), (), (), SESSION_SECONDS)[0]:
        return ssh.has_answered()
    try:
        os.close(os.open(f"{directory}/hung", os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError:  # the connection has ended
        pass
    return False


def _await(socket: str, making: str) -> bool:
    """Tell whether there is a connection; one that is being made is waited for. Raises NotMade."""
    if not os.path.exists(making):
        return os.path.exists(socket)
    limit = monotonic() + MAKING_SECONDS
    while os.path.exists(making) and not os.path.exists(socket):
        if monotonic() > limit:
            raise NotMade
        select((), (), (), LOOK_SECONDS)
    if not os.path.exists(socket):
        raise NotMade
    return True
