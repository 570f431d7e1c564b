# SPDX-License-Identifier: MIT
"""Options that say how files behave and what is cached."""

from collections.abc import Mapping

from sshfs_plugin.options.table.row import Option, Topic, sshfs_option, sshfs_switch
from sshfs_plugin.options.values import NO, YES, charset, flag, number, one_of, seconds, words

_LARGEST = 2**31 - 1

_RENAME = "rename"
"""sshfs applies this workaround only where the server does not announce posix-rename (docs/facts.md)."""

_list_of_workarounds = words(
    ":",
    "none",
    *(
        f"{no}{what}"
        for what in ("rename", "renamexdev", "truncate", "fstat", "buflimit", "createmode")
        for no in ("", "no")
    ),
    # these words are of sshfs 2
    all="rename:truncate:fstat:buflimit",
    **dict.fromkeys(("nodelay", "nonodelay", "nodelaysrv", "nonodelaysrv"), ""),
)


def _workarounds(text: str) -> str:
    return _list_of_workarounds(text) or _RENAME


BEHAVIOUR = Topic(
    "How files behave",
    (
        sshfs_option(
            name="contain_symlinks",
            negations=("no_contain_symlinks",),
            meaning="Symbolic links that are absolute or contain `..` can't be read. On, unless switched off: see "
            "everyday.md before you do.",
            default=YES,
            canonical=flag,
        ),
        sshfs_switch(
            name="follow_symlinks",
            meaning="The server follows symbolic links; what they lead to appears in their place.",
        ),
        sshfs_switch(
            name="transform_symlinks",
            meaning="Absolute symbolic links are shown as relative ones.",
        ),
        sshfs_switch(
            name="disable_hardlink",
            meaning="Hard links can't be made.",
        ),
        sshfs_switch(
            name="sshfs_sync",
            aliases=("sync",),
            negations=("async",),
            meaning="Each write waits for the server.",
        ),
        sshfs_option(
            name="workaround",
            value="list",
            meaning="For servers other than OpenSSH, a list with colons: `rename` (renaming onto an existing file, if "
            "the server can't do that in one step), `renamexdev`, `truncate`, `fstat`, `buflimit`, `createmode`, each "
            "with `no` before it to switch it off, or `none`.",
            default=_RENAME,
            imposed=True,
            canonical=_workarounds,
        ),
        sshfs_option(
            name="modules",
            value="iconv",
            meaning="`iconv` translates the names of files, see `from_code` and `to_code`.",
            canonical=one_of("iconv"),
        ),
        sshfs_option(
            name="from_code",
            value="charset",
            meaning="With `modules=iconv`: how the server spells the names of files.",
            canonical=charset,
        ),
        sshfs_option(
            name="to_code",
            value="charset",
            meaning="With `modules=iconv`: how containers do.",
            canonical=charset,
        ),
    ),
)

DEFAULT, METADATA, STRICT = "default", "metadata", "strict"

PROFILES: Mapping[str, Mapping[str, str]] = {
    DEFAULT: {},
    # not attr_timeout: a file that has grown is read up to the size that the kernel remembers, even when opened again
    METADATA: {"dcache_timeout": "60", "entry_timeout": "60", "negative_timeout": "60"},
    STRICT: {"dir_cache": NO, "attr_timeout": "0", "entry_timeout": "0"},
}
"""The options that each value of ``profile`` stands for (docs/facts.md, "What is remembered")."""

CACHING = Topic(
    "What is remembered, and for how long",
    (
        Option(
            name="profile",
            value="|".join(PROFILES),
            meaning="Several of the next options at once: `metadata` remembers names, sizes and times for a minute, "
            "for files that hardly ever change on the server, and `strict` nothing. An option that is given beside "
            "it wins. See everyday.md.",
            default=DEFAULT,
            canonical=one_of(*PROFILES),
        ),
        sshfs_option(
            name="dcache_timeout",
            aliases=("cache_timeout",),
            value="seconds",
            meaning="How long sshfs remembers directories, attributes and links: a change that is made on the server "
            "shows up after this time at the latest. It stands for the next three, too. Without it: 20, but for names.",
            canonical=number(0, _LARGEST),
        ),
        sshfs_option(
            name="dcache_dir_timeout",
            aliases=("cache_dir_timeout",),
            value="seconds",
            meaning="The same for the names in a directory alone: 2, unless this or `dcache_timeout` is given.",
            canonical=number(0, _LARGEST),
        ),
        sshfs_option(
            name="dcache_stat_timeout",
            aliases=("cache_stat_timeout",),
            value="seconds",
            meaning="The same for attributes.",
            canonical=number(0, _LARGEST),
        ),
        sshfs_option(
            name="dcache_link_timeout",
            aliases=("cache_link_timeout",),
            value="seconds",
            meaning="The same for symbolic links.",
            canonical=number(0, _LARGEST),
        ),
        sshfs_option(
            name="dir_cache",
            aliases=("cache",),
            value="yes|no",
            meaning="Whether sshfs remembers any of that.",
            default=YES,
            canonical=one_of(YES, NO),
        ),
        sshfs_option(
            name="dcache_max_size",
            aliases=("cache_max_size",),
            value="number",
            meaning="How many files and directories are remembered.",
            default="10000",
            canonical=number(0, _LARGEST),
        ),
        sshfs_option(
            name="dcache_clean_interval",
            aliases=("cache_clean_interval",),
            value="seconds",
            meaning="How often what is out of date is dropped.",
            default="60",
            canonical=number(0, _LARGEST),
        ),
        sshfs_option(
            name="dcache_min_clean_interval",
            aliases=("cache_min_clean_interval",),
            value="seconds",
            meaning="How often at most, when there is too much of it.",
            default="5",
            canonical=number(0, _LARGEST),
        ),
        sshfs_option(
            name="attr_timeout",
            value="seconds",
            meaning="How long the kernel remembers attributes.",
            default="1",
            canonical=seconds,
        ),
        sshfs_option(
            name="entry_timeout",
            value="seconds",
            meaning="How long the kernel remembers that a name exists.",
            default="1",
            canonical=seconds,
        ),
        sshfs_option(
            name="negative_timeout",
            value="seconds",
            meaning="How long the kernel remembers that a name does not exist.",
            default="0",
            canonical=seconds,
        ),
        sshfs_option(
            name="ac_attr_timeout",
            value="seconds",
            meaning="With `auto_cache`: how long attributes count when it compares them.",
            canonical=seconds,
        ),
        sshfs_switch(
            name="kernel_cache",
            meaning="Content stays in memory when a file is opened again, even if it has changed on the server.",
        ),
        sshfs_switch(
            name="auto_cache",
            negations=("noauto_cache",),
            meaning="Content stays in memory when a file is opened again, unless its time or size has changed.",
        ),
        sshfs_switch(
            name="direct_io",
            meaning="Content is never kept in memory; programs can't share a file's memory then (mmap).",
        ),
        sshfs_switch(
            name="no_readahead",
            meaning="Nothing is read before it is asked for.",
        ),
        sshfs_switch(
            name="sync_readdir",
            meaning="A directory is read in single steps.",
        ),
        sshfs_option(
            name="max_read",
            value="bytes",
            meaning="The largest read that is sent at once.",
            canonical=number(1, _LARGEST),  # with 0 sshfs would send reads without end, and of nothing
        ),
        sshfs_option(
            name="max_write",
            value="bytes",
            meaning="The largest write that is sent at once.",
            canonical=number(1, _LARGEST),  # as above
        ),
        sshfs_option(
            name="remember",
            value="seconds",
            meaning="How long a file that nobody uses keeps its inode number; `-1` for ever, as `noforget`.",
            default="0",
            canonical=number(-1, _LARGEST),
        ),
        sshfs_switch(
            name="noforget",
            meaning="It keeps it for ever.",
        ),
        sshfs_switch(
            name="no_rofd_flush",
            meaning="Closing a file that was only read sends nothing.",
        ),
    ),
)
