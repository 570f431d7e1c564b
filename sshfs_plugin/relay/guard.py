# SPDX-License-Identifier: MIT
"""The end of sshfs if the relay is killed while a file is open that may be read from.

Until sshfs has noticed that, each read would look like the end of the file, whether it was asked for before or after
(docs/sshfs-224.md). Without such a file sshfs starts another relay.
"""

import os

from sshfs_plugin.relay import outage
from sshfs_plugin.relay.ssh import process_at_other_end

PROGRAM = """
read -r never
read -r reads <&3
[ "$reads" = yes ] || exit 0
read -r name <"/proc/$1/comm" && [ "$name" = sshfs ] && [ -e "/proc/$1/exe" ] || exit 0
kill -9 "$1"
echo "the relay was killed while a file was open: sshfs was ended, or a read would look like the end of the file" >&2
"""
"""It waits for the end of the relay; until its own, sshfs does not see that, since it has a copy of the socket.

A zombie has no "exe".
"""

YES, NO, OVER = b"yes\n", b"no\n\0", b"over"


class Guard:
    """A shell that waits for the end of this process, from the first file on that is open to be read from."""

    def __init__(self, sshfs: int) -> None:
        """Guard the reads of an sshfs, given by the descriptor of the socket to it."""
        self._sshfs, self._reads, self._process, self._told, self._end = sshfs, NO, 0, -1, -1
        self._has_complained = False

    def watch(self) -> None:
        """Start it, unless it is there, or again if it was killed. Where that fails, reads go on without."""
        if self._runs():
            return
        self._let_go()
        try:
            self._start()
        except OSError as error:
            self._let_go()
            if not self._has_complained:
                outage.say(
                    f"no program can be started that guards reads ({error.strerror}): if the relay is killed, they "
                    "may look like the end of the file"
                )
            self._has_complained = True

    def note(self, *, reads: bool) -> None:
        """Note whether a file is open that may be read from; one is only after :meth:`watch`."""
        now = YES if reads else NO
        if self._process and now is not self._reads:
            os.pwrite(self._told, now, 0)
            self._reads = now

    def end(self) -> None:
        """Let it end; this process ends sshfs itself if it must."""
        if self._process:
            os.pwrite(self._told, OVER, 0)
        self._let_go()

    def _runs(self) -> bool:
        try:
            return self._process > 0 and os.waitpid(self._process, os.WNOHANG) == (0, 0)
        except ChildProcessError:  # it was reaped already, since our starter ignores the ends of children
            return False

    def _let_go(self) -> None:
        for descriptor in (self._told, self._end):
            if descriptor >= 0:
                os.close(descriptor)
        self._process, self._told, self._end, self._reads = 0, -1, -1, NO

    def _start(self) -> None:
        command = ["/bin/sh", "-c", PROGRAM, "sh", str(process_at_other_end(self._sshfs))]
        self._told = os.memfd_create("reads")
        waited_for, self._end = os.pipe()
        try:
            self._process = os.posix_spawn(
                command[0],
                command,
                {"PATH": "/usr/bin:/bin"},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, self._sshfs, 1),
                    (os.POSIX_SPAWN_DUP2, waited_for, 0),
                    (os.POSIX_SPAWN_DUP2, self._told, 3),  # the last, since one of the others may be 3
                ],
            )
        finally:
            os.close(waited_for)
