# SPDX-License-Identifier: MIT
"""The administrator's command, docker-volume-sshfs.

``commands.py`` parses the command line, ``terminal.py`` prints, and each command has a module, which uses the same
parts as the service. That module is imported when the command runs, so that shell completion is quick.
"""
