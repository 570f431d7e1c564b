# SPDX-License-Identifier: MIT
"""The kinds of event in the journal, which ``journalctl -x`` explains.

What it says of each is in ``systemd/docker-volume-sshfs.catalog``. Programs wait for these IDs, so none ever changes.
"""

import enum


class Event(enum.StrEnum):
    """A kind of event; the value is its MESSAGE_ID."""

    CREATED = "11cc69d6147245f3af212698168c47dc"
    CREATE_FAILED = "bfd0a4db4e5545dc86268b8a397da5ec"
    MOUNTED = "160c2e7e85724cf0b4789677859a0757"
    MOUNT_FAILED = "d076db26aed24af38b8a04467f0574ec"
    UNMOUNTED = "f0a7bfe978a1461c83f1605e9d5d47cf"
    UNMOUNT_FAILED = "56076aa678df49f18e6e468558fe5e1f"
    LEFT_MOUNTED = "27d7a849a929411599a3df76be005889"
    REMOVED = "db7af5052acb49a98fe7808e206b160d"
    REMOVE_FAILED = "e31d8f4abe8149caa40eac36f90c2bf5"
    UNRESPONSIVE = "b7a9f9421b56430787083d01d5e26dc8"
    ANSWERS_AGAIN = "30155d3dc9c64c649d2a49e2a7035a6b"
    LOST = "22e0b1fda1444848852d81641205152e"
    REMOUNTED = "d4a9223b631541c99cecea8ee0c0afa8"
    UNUSABLE = "a31eb8fe1cf84f76a5265e36bc05fcbd"
    USABLE_AGAIN = "668b631d17a24a20aad1440fe0c07581"
    RELEASED_BY_FORCE = "994e5d4e7949493d81735e56ed952565"
    HIDDEN_FROM_DOCKER = "de39a8c63b9a4060a63447b0dadd65e8"

    @property
    def fields(self) -> dict[str, str]:
        """The journal fields of a line about it, for ``extra`` of a logging call."""
        return {"MESSAGE_ID": self.value}
