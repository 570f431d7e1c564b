# SPDX-License-Identifier: MIT
"""The machines of the lab: how they are made, started, watched and removed."""
