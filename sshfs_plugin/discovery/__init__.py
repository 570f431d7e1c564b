# SPDX-License-Identifier: MIT
"""Where Docker looks for plugins, and what it finds there."""
