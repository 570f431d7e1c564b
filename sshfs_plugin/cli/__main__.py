# SPDX-License-Identifier: MIT
"""The command from a checkout: ``python3 -m sshfs_plugin.cli``."""

from sshfs_plugin.cli.commands import main

main()
