# SPDX-License-Identifier: MIT
"""What the tests of failures have in common.

The figures of docs/reliability.md are properties that they record: ``--junitxml FILE -o junit_family=xunit1`` shows
them.
"""

import pytest

from lab.host import Host
from lab.ssh_server import SshServer


@pytest.fixture
def server(host: Host) -> SshServer:
    """Return the machine's own SSH server."""
    return SshServer(host.machine)
