# SPDX-License-Identifier: MIT
"""The volume plugin protocol over HTTP, and the gunicorn worker that serves it."""
