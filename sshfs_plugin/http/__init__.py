# SPDX-License-Identifier: MIT
"""The volume plugin protocol over HTTP: what is asked, who asks, and how gunicorn's worker serves it."""
