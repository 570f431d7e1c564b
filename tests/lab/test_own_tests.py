# SPDX-License-Identifier: MIT
"""The tests that take root, with Python and packages of the machine's release; test_build.py runs the others."""

from support.long import normally

from .host import ROOT, Host
from .machines.commands import LIMIT

ALONE_ON = {
    "bookworm": ("connections", "faults", "hung_files", "relay", "remotes"),
    "trixie": ("further_volumes", "jumps", "named_secrets", "operations"),
}
"""What is tried on one of the releases alone, but for ``--long``: what they differ in least, and what takes long."""

LEFT_OUT = ["quota"]
"""A machine has no loop device, which a quota takes: that is tried on the host."""


def test_the_tests_that_take_root_pass_on_this_release(host: Host, release: str) -> None:
    others = [name for other, names in ALONE_ON.items() if other != release for name in names]
    left_out = [f"tests/integration/test_{name}.py" for name in LEFT_OUT + normally(others, [])]
    assert [path for path in left_out if not (ROOT / path).exists()] == []
    words = " ".join(f"--ignore={path}" for path in left_out)
    settings = "CI=true " + normally("", "SSHFS_TEST_LONG=yes")  # CI: what could not run there has failed
    pytest_ = f"{settings} /usr/bin/python3 -m pytest -q -n 4 --basetemp=/var/tmp/t {words}"
    said = host.machine.sh(
        f"cd {host.checkout()} && {pytest_} tests/integration tests/unit/mounts/test_kernel.py 2>&1",
        timeout=normally(LIMIT, 3 * LIMIT),
    ).stdout
    assert " passed in " in said
    assert "skipped" not in said
