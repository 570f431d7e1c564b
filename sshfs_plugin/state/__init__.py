# SPDX-License-Identifier: MIT
"""The files that outlive this process: volume records, and who holds which volume."""
