# SPDX-License-Identifier: MIT
"""The relay: a program between sshfs and ssh that outlives connections (docs/reliability.md).

It starts with every mount and once per mount, so it is built to be small: these modules import nothing that Python has
not loaded by itself, or is built into it, and no other package of ours.
"""
