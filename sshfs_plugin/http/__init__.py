# SPDX-License-Identifier: MIT
"""The volume plugin protocol over HTTP, the gunicorn worker that serves it, and the journal."""
