# SPDX-License-Identifier: MIT
"""The end of sshfs if the relay is killed while a read has no answer: sshfs would take that for the end of the file."""

import os

from sshfs_plugin.relay.ssh import process_at_other_end

PROGRAM = """
exec 4>&1
read -r never
read -r reads <&3
[ "$reads" != over ] || exit 0
[ "$reads" = yes ] || [ -n "$(dd iflag=nonblock bs=1 count=1 <&4 2>/dev/null | od -An)" ] || exit 0
read -r name <"/proc/$1/comm" && [ "$name" = sshfs ] && [ -e "/proc/$1/exe" ] || exit 0
kill -9 "$1"
echo "the relay was killed amid a read: sshfs was ended, or that would have looked like the end of the file" >&2
"""
"""It waits for the end of the relay; until its own, sshfs does not see that, since it has a copy of the socket.

What the relay has not taken from there may be a read as well. A zombie has no "exe".
"""

YES, NO, OVER = b"yes\n", b"no\n\0", b"over"


class Guard:
    """A shell that waits for the end of this process, from the first read on."""

    def __init__(self, sshfs: int) -> None:
        """Guard the reads of an sshfs, given by the descriptor of the socket to it."""
        self._sshfs, self._reads, self._told, self._end = sshfs, NO, -1, -1

    @property
    def is_there(self) -> bool:
        """Whether it has been started, which may have failed."""
        return self._told >= 0

    def note(self, *, reads: bool) -> None:
        """Note whether a read may have no answer yet."""
        now = YES if reads else NO
        if now is self._reads:
            return
        try:
            if self._told < 0:
                self._start()
            os.pwrite(self._told, now, 0)
            self._reads = now
        except OSError:  # this host has no descriptor or process left: reads go on without
            pass

    def end(self) -> None:
        """Let it end; this process ends sshfs itself if it must."""
        if self._told >= 0:
            os.pwrite(self._told, OVER, 0)
        for descriptor in (self._told, self._end):
            if descriptor >= 0:
                os.close(descriptor)
        self._told = self._end = -1

    def _start(self) -> None:
        command = ["/bin/sh", "-c", PROGRAM, "sh", str(process_at_other_end(self._sshfs))]
        told = os.memfd_create("reads")
        try:
            waited_for, self._end = os.pipe()
        except OSError:
            os.close(told)
            raise
        self._told = told
        try:
            os.posix_spawn(
                command[0],
                command,
                {"PATH": "/usr/bin:/bin"},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, self._sshfs, 1),
                    (os.POSIX_SPAWN_DUP2, waited_for, 0),
                    (os.POSIX_SPAWN_DUP2, told, 3),  # the last, since one of the others may be 3
                ],
            )
        finally:
            os.close(waited_for)
