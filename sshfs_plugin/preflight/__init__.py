# SPDX-License-Identifier: MIT
"""The preflight: it checks with paramiko, step by step, whether a server can serve a volume, before sshfs is started.

Resolve the name, connect, exchange keys, verify the host key, log in, open SFTP, look at the directory. Each check has
its own error with its own cure, where sshfs would say "read: Connection reset by peer" to nearly all of them
(docs/facts.md). Nothing is written on the server, unless that is asked for. Only algorithms that Debian's ssh accepts
by default are offered, so that ssh can use a server that has passed.
"""
