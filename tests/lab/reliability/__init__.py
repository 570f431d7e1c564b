# SPDX-License-Identifier: MIT
"""What containers see when the server, the network or a program fails: the table of docs/reliability.md, row by row."""
