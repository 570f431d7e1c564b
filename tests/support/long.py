# SPDX-License-Identifier: MIT
"""How much is tried: ``scripts/test --long`` tries what takes hours to go wrong by chance."""

import os
from typing import TypeVar

_T = TypeVar("_T")

LONG = os.environ.get("SSHFS_TEST_LONG") == "yes"


def normally(few: _T, many: _T) -> _T:
    """Return how much to try: the first normally, the second in a long run."""
    return many if LONG else few
