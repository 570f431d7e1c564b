# SPDX-License-Identifier: MIT
"""The tests that take root, with Python and packages of the machine's release; test_build.py runs the others."""

from support.long import normally

from .host import Host
from .machines.commands import LIMIT

TESTS = "tests/integration tests/unit/mounts/test_kernel.py --ignore=tests/integration/test_quota.py"
"""A machine has no loop device, which a quota takes: that is tried on the host."""


def test_the_tests_that_take_root_pass_on_this_release(host: Host) -> None:
    settings = "CI=true " + normally("", "SSHFS_TEST_LONG=yes")  # CI: what could not run there has failed
    pytest_ = f"{settings} /usr/bin/python3 -m pytest -q -n 4 --basetemp=/var/tmp/t"
    said = host.machine.sh(f"cd {host.checkout()} && {pytest_} {TESTS} 2>&1", timeout=normally(LIMIT, 3 * LIMIT)).stdout
    assert " passed in " in said
    assert "skipped" not in said
