# SPDX-License-Identifier: MIT
"""Options that say where a volume is."""

from sshfs_plugin.options.table.row import Option, Shape, Topic
from sshfs_plugin.options.values import (
    NO,
    SSHFS,
    directory,
    file_system,
    flag,
    host,
    one_of,
    plain_text,
    port,
    remote,
    sshcmd,
    user,
)
from sshfs_plugin.volume import CheckAt

TOPIC = Topic(
    "Where the files are",
    (
        Option(
            name="sshcmd",
            aliases=("device",),
            value="user@host:/dir",
            meaning="The directory on the server, as sshfs takes it; `user@host:` is the login directory, and an IPv6 "
            "address goes in brackets. Without `user@`, root logs in.",
            canonical=sshcmd,
            shape=Shape.FREE,
        ),
        Option(
            name="remote",
            value="name",
            meaning="A server that a file on this host describes, with `directory` in place of `sshcmd`. The file is "
            "`/etc/docker-volume-sshfs/remotes.d/NAME.conf`; what is given beside it counts before what it says.",
            canonical=remote,
        ),
        Option(
            name="host",
            value="name",
            meaning="The server, with `user` and `directory` in place of `sshcmd`; an IPv6 address needs no brackets.",
            canonical=host,
        ),
        Option(
            name="user",
            value="name",
            meaning="Who logs in there, beside `host`, or where `sshcmd` does not say it.",
            canonical=user,
        ),
        Option(
            name="directory",
            value="path",
            meaning="The directory there, beside `host` or `remote`; without it, or if it is relative, the login "
            "directory counts.",
            canonical=directory,
            shape=Shape.FREE,
        ),
        Option(
            name="port",
            value="number",
            meaning="The port of the SSH server. There is no place for it in `sshcmd`, where `host:2222/dir` is the "
            "directory `2222/dir` of the login.",
            default="22",
            canonical=port,
        ),
        Option(
            name="create_directory",
            meaning="A directory that does not exist on the server is made when the volume is created (not later: it "
            "would hide that a disk is missing there).",
            default=NO,
            canonical=flag,
        ),
        Option(
            name="check",
            value="create|mount|never",
            meaning="When the server, the login and the directory are checked: at `docker volume create` and before "
            "mounting, only before mounting, or never.",
            default=CheckAt.CREATE.value,
            canonical=one_of("create", "mount", "never"),
        ),
        Option(
            name="o",
            value="list",
            meaning="A list of options with commas, `o=ro,uid=1000`: with `device` and `type` the form of Docker's own "
            "driver, of Quadlet and of `podman kube play`.",
            canonical=plain_text,
            shape=Shape.FREE,
        ),
        Option(
            name="type",
            value="sshfs",
            meaning="Says again what the driver is; `fuse.sshfs` is the same.",
            default=SSHFS,
            canonical=file_system,
        ),
    ),
)
