# SPDX-License-Identifier: MIT
"""The tests that take root, with Python and packages of the machine's release; test_build.py runs the others."""

from .host import Host

TESTS = "tests/integration tests/unit/mounts/test_kernel.py --ignore=tests/integration/test_quota.py"
"""A machine has no loop device, which a quota takes: that is tried on the host."""


def test_the_tests_that_take_root_pass_on_this_release(host: Host) -> None:
    # CI: what could not run there has failed
    pytest_ = "CI=true /usr/bin/python3 -m pytest -q -n 4 --basetemp=/var/tmp/t"
    said = host.machine.sh(f"cd {host.checkout()} && {pytest_} {TESTS} 2>&1").stdout
    assert " passed in " in said
    assert "skipped" not in said
