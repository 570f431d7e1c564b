# SPDX-License-Identifier: MIT
"""The administrator's command, docker-volume-sshfs.

``commands.py`` is its grammar, ``terminal.py`` how it looks, and one module for each command what it does, through the
same parts as the service. What a command needs is imported when it runs, so that completion is quick.
"""
