# SPDX-License-Identifier: MIT
"""The end of sshfs if the relay is killed while a read has no answer: sshfs would take that for the end of the file."""

import os

from sshfs_plugin.relay.ssh import process_at_other_end

PROGRAM = """
exec 3>&1
sshfs=$1
read -r never
read -r reads <"/proc/$$/fd/$2"
[ "$reads" = 1 ] || set -- $(dd iflag=nonblock bs=5 count=1 <&3 2>/dev/null | od -An -tu1)
[ "$reads" = 1 ] || [ "${5:-}" = 5 ] || exit 0
read -r name <"/proc/$sshfs/comm" && [ "$name" = sshfs ] || exit 0
kill -9 "$sshfs"
echo "the relay was killed amid a read: sshfs was ended, or that would have looked like the end of the file" >&2
"""
"""It waits for the end of the relay; until its own, sshfs does not see that, since it has a copy of the socket.

The next packet there, which the relay has not taken, may be a read as well: that is of type 5.
"""

YES, NO = b"1\n", b"0\n"


class Guard:
    """A shell that waits for the end of this process, from the first read on."""

    def __init__(self, sshfs: int) -> None:
        """Guard the reads of an sshfs, given by the descriptor of the socket to it."""
        self._sshfs, self._reads, self._told, self._end = sshfs, NO, -1, -1

    @property
    def is_there(self) -> bool:
        """Whether there has been a read yet."""
        return self._told >= 0

    def note(self, *, reads: bool) -> None:
        """Note whether a read may have no answer yet."""
        now = YES if reads else NO
        if now is self._reads:
            return
        self._reads = now
        try:
            if self._told < 0:
                self._told = os.memfd_create("reads")
                self._start()
            os.pwrite(self._told, now, 0)
        except OSError:  # this host has no descriptor or process left: reads go on without
            pass

    def end(self) -> None:
        """Let it end; this process ends sshfs itself if it must."""
        self.note(reads=False)
        for descriptor in (self._told, self._end):
            if descriptor >= 0:
                os.close(descriptor)
        self._told = self._end = -1

    def _start(self) -> None:
        waited_for, self._end = os.pipe()
        os.set_inheritable(self._told, True)
        command = ["/bin/sh", "-c", PROGRAM, "sh", str(process_at_other_end(self._sshfs)), str(self._told)]
        try:
            os.posix_spawn(
                command[0],
                command,
                {"PATH": "/usr/bin:/bin"},
                file_actions=[(os.POSIX_SPAWN_DUP2, self._sshfs, 1), (os.POSIX_SPAWN_DUP2, waited_for, 0)],
            )
        finally:
            os.set_inheritable(self._told, False)
            os.close(waited_for)
