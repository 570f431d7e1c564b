# SPDX-License-Identifier: MIT
"""The names of the checks, and the observer that is told of each: the preflight itself prints nothing."""

import contextlib
import enum
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeAlias


class Check(enum.Enum):
    """A check of the preflight, in the order in which they are made; the value is its name for people."""

    CREDENTIALS = "key or password"
    OPTIONS = "options"
    JUMP = "jump host"
    NAME = "name"
    CONNECTION = "connection"
    KEY_EXCHANGE = "key exchange"
    HOST_KEY = "host key"
    LOGIN = "login"
    SFTP = "SFTP"
    DIRECTORY = "directory"
    WRITING = "writing"

    @property
    def label(self) -> str:
        """Its name for programs."""
        return self.name.lower()


Note: TypeAlias = Callable[[str], None]
"""Is called with a few words on what a check has found; they hold no secret, but some come from the server."""

Observer: TypeAlias = Callable[[Check], AbstractContextManager[Note]]
"""Is called with each check. The context that it returns is left when the check has passed, or with its error.

A failed check need not end the preflight: for a pinned host key a server is asked for several kinds of key, with a
connection for each. What counts is the error that the preflight itself raises.
"""


@contextlib.contextmanager
def unobserved(_check: Check) -> Iterator[Note]:
    """Observe nothing."""
    yield lambda _words: None
