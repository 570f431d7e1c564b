# SPDX-License-Identifier: MIT
"""Mounted volumes: what keeps their processes, what the kernel says of them, and how they are released."""
