# SPDX-License-Identifier: MIT
"""Where Docker looks for plugins, what it finds there, and a client of what it finds."""
