# SPDX-License-Identifier: MIT
"""A program with servers that accept connections and then get stuck or go wrong, each at another step.

It runs until it is ended: ``python3 -m support.bad_servers PUBLIC_KEY``.
"""

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from support.impostors import impostor
from support.ssh_server import Account, serving


@contextlib.contextmanager
def bad_servers(public_key: str) -> Iterator[dict[str, int]]:
    """Run one of each kind, and give the port of each.

    Args:
        public_key: What lets anybody in who gets so far.
    """
    says = {
        "silent": b"",
        "rubbish": b"\x16\x03\x01\x00\xa5\x00\xff" * 50_000,
        "rubbish after its version": b"SSH-2.0-x\r\n" + b"\x7f\xff\xff\xf4" * 50_000,
        "key exchange": b"SSH-2.0-OpenSSH_9.2\r\n",
    }
    stalls_at = {"login": "publickey", "SFTP": "subsystem sftp", "directory": "stat /files"}
    with contextlib.ExitStack() as stack:
        ports = {kind: stack.enter_context(impostor(words)) for kind, words in says.items()}
        for kind, step in stalls_at.items():
            account = Account(directory=Path("/srv"), keys=[public_key], stalls_at=step)
            ports[kind] = stack.enter_context(serving(account)).port
        yield ports


def main() -> None:
    """Say on stdout, in one line of JSON, what there is."""
    with bad_servers(Path(sys.argv[1]).read_text()) as ports:
        sys.stdout.write(json.dumps(ports) + "\n")
        sys.stdout.flush()
        signal.pause()


if __name__ == "__main__":
    main()
