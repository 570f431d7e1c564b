# SPDX-License-Identifier: MIT
"""Options that say who may do what with the files, and whose they appear to be."""

from sshfs_plugin.options.table.row import Option, Shape, Topic, sshfs_option, sshfs_switch
from sshfs_plugin.options.values import flag, number, one_of, path_for_sshfs, umask

_LARGEST_ID = 2**32 - 2

TOPIC = Topic(
    "Who may do what",
    (
        sshfs_switch(
            name="ro",
            negations=("rw",),
            meaning="Nobody can write to the volume.",
        ),
        sshfs_option(
            name="uid",
            value="number",
            meaning="Every file appears to belong to this user.",
            canonical=number(0, _LARGEST_ID, "id -u NAME"),
        ),
        sshfs_option(
            name="gid",
            value="number",
            meaning="Every file appears to belong to this group.",
            canonical=number(0, _LARGEST_ID, "getent group NAME"),
        ),
        sshfs_option(
            name="umask",
            value="octal",
            meaning="Permissions are shown as all but these; it hides the real ones.",
            canonical=umask,
        ),
        sshfs_option(
            name="idmap",
            value="none|user|file",
            meaning="`user` shows the files of the login user as root's, and lets them be given to root; `file` "
            "translates by `uidfile` and `gidfile`. Without this option: `user` beside `uid` or `gid`, else `none`.",
            canonical=one_of("none", "user", "file"),
        ),
        sshfs_option(
            name="uidfile",
            value="path",
            meaning="With `idmap=file`: a file of lines `name:number`, a user of this host and its number there.",
            canonical=path_for_sshfs,
            shape=Shape.LIST,
        ),
        sshfs_option(
            name="gidfile",
            value="path",
            meaning="The same for groups.",
            canonical=path_for_sshfs,
            shape=Shape.LIST,
        ),
        sshfs_option(
            name="nomap",
            value="error|ignore",
            meaning="With `idmap=file`: whether a number that is not in the file makes a file unusable or, as without "
            "this option, stays as it is.",
            canonical=one_of("error", "ignore"),
        ),
        Option(
            name="allow_other",
            negations=("allow_root",),
            meaning="Every user may read and write every file, unless `default_permissions` is given too. Without "
            "this option, users other than root may do what owner, group and mode allow.",
            canonical=flag,
        ),
        Option(
            name="default_permissions",
            meaning="Owner, group and mode are checked. On, unless `allow_other` is given without it.",
            canonical=flag,
        ),
        sshfs_switch(
            name="noexec",
            negations=("exec",),
            meaning="No program in the volume can be started.",
        ),
    ),
)
