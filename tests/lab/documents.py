# SPDX-License-Identifier: MIT
"""What our documents tell people to type and to write into files, as a script that does it word for word."""

import re

from .host import ROOT

_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def script(document: str) -> str:
    """Return the commands of a document, in its order.

    A block is run if it is fenced as ``sh``, and becomes a file if a name follows its kind; others are only shown.
    """
    steps = ["set -eux"]
    for kind, name, text in _BLOCK.findall((ROOT / document).read_text()):
        if name:
            steps.append(f"cat >{name} <<'THE-END'\n{text}THE-END")
        elif kind == "sh":
            steps.append(text)
    return "\n".join(steps)
