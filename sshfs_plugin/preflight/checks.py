# SPDX-License-Identifier: MIT
"""The checks by name, and who observes them: the preflight tells where it is and knows nothing of terminals."""

import contextlib
import enum
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeAlias


class Check(enum.Enum):
    """A check of the preflight, in the order in which they are made; the value is what a person calls it."""

    CREDENTIALS = "key or password"
    NAME = "name"
    CONNECTION = "connection"
    KEY_EXCHANGE = "key exchange"
    HOST_KEY = "host key"
    LOGIN = "login"
    SFTP = "SFTP"
    DIRECTORY = "directory"
    WRITING = "writing"


Note: TypeAlias = Callable[[str], None]
"""Takes a few words on what a check has found; nothing of it is secret, but some comes from the server."""

Observer: TypeAlias = Callable[[Check], AbstractContextManager[Note]]
"""Is entered with each check and left when it has passed, or with the error with which it has failed.

A failed check need not be the end, since a server is asked for several kinds of host key in turn: the connection is
then made again. What counts is the error that the preflight itself ends with.
"""


@contextlib.contextmanager
def unobserved(_check: Check) -> Iterator[Note]:
    """Observe nothing."""
    yield lambda _words: None
