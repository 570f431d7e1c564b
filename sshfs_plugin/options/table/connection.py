# SPDX-License-Identifier: MIT
"""Options that say how the connection is made and kept."""

from sshfs_plugin.options.table.row import Option, Shape, Topic, ssh_option, sshfs_option
from sshfs_plugin.options.values import (
    NO,
    NONE,
    YES,
    address,
    algorithms,
    duration,
    flag,
    interface,
    jump_host,
    number,
    one_of,
    quality_of_service,
    rekey_limit,
)

_ALGORITHMS_MEANING = "in ssh's syntax: `a,b` these alone, `+a` one more, `-a` one less, `^a` this one first."

TOPIC = Topic(
    "The connection",
    (
        sshfs_option(
            name="reconnect",
            meaning="A lost connection is made again. On, unless switched off.",
            default=YES,
            imposed=True,
            canonical=flag,
        ),
        Option(
            name="relay",
            meaning="Files that are open for reading stay readable when a lost connection is back, see reliability.md. "
            "On, unless switched off.",
            default=YES,
            canonical=flag,
        ),
        Option(
            name="read_timeout",
            value="seconds",
            meaning="How long a read of an open file waits for a lost server. Then sshfs is ended, since only so does "
            "the reader see an error, and containers that use the volume must be restarted.",
            default="900",
            canonical=duration(604800),
        ),
        Option(
            name="own_connection",
            meaning="The volume shares its connection with no other. Else volumes that log in to the same server in "
            "the same way do, ten to a connection, and a further one is mounted without a login: see how-it-works.md.",
            default=NO,
            canonical=flag,
        ),
        Option(
            name="ProxyJump",
            value="name",
            meaning="The server is reached through a jump host, a remote whose file on this host says how to log in "
            "there; that may have a `ProxyJump` itself. The server's name is resolved there. See remotes.md.",
            default=NONE,
            canonical=jump_host,
            shape=Shape.LIST,
        ),
        ssh_option(
            name="ServerAliveInterval",
            aliases=("ProtocolKeepAlives",),
            value="seconds",
            meaning="How often an idle connection is probed.",
            default="15",
            imposed=True,
            canonical=duration(3600),
        ),
        ssh_option(
            name="ServerAliveCountMax",
            value="number",
            meaning="After how many unanswered probes the connection counts as lost.",
            default="3",
            imposed=True,
            canonical=number(1, 100),
        ),
        ssh_option(
            name="ConnectTimeout",
            aliases=("SetupTimeOut",),
            value="seconds",
            meaning="How long to wait for the server at each connection.",
            default="10",
            imposed=True,
            canonical=duration(3600),
        ),
        ssh_option(
            name="TCPKeepAlive",
            aliases=("KeepAlive",),
            meaning="The kernel probes the connection, too.",
            default=YES,
            canonical=flag,
        ),
        ssh_option(
            name="Compression",
            meaning="Data is compressed: faster over slow lines, slower over fast ones.",
            default=NO,
            canonical=flag,
        ),
        ssh_option(
            name="Ciphers",
            value="list",
            meaning=f"Ciphers, {_ALGORITHMS_MEANING} Faster if both processors have AES instructions, as most do, and "
            "slower if one has none: `^aes128-gcm@openssh.com`.",
            canonical=algorithms,
            shape=Shape.LIST,
        ),
        ssh_option(
            name="MACs",
            value="list",
            meaning=f"Message authentication codes, {_ALGORITHMS_MEANING}",
            canonical=algorithms,
            shape=Shape.LIST,
        ),
        ssh_option(
            name="KexAlgorithms",
            value="list",
            meaning=f"Key exchanges, {_ALGORITHMS_MEANING}",
            canonical=algorithms,
            shape=Shape.LIST,
        ),
        ssh_option(
            name="HostKeyAlgorithms",
            value="list",
            meaning=f"Kinds of host keys, {_ALGORITHMS_MEANING} An old server may need `+ssh-rsa`.",
            canonical=algorithms,
            shape=Shape.LIST,
        ),
        ssh_option(
            name="PubkeyAcceptedAlgorithms",
            aliases=("PubkeyAcceptedKeyTypes",),
            value="list",
            meaning=f"Kinds of keys to log in with, {_ALGORITHMS_MEANING}",
            canonical=algorithms,
            shape=Shape.LIST,
        ),
        ssh_option(
            name="RequiredRSASize",
            value="bits",
            meaning="The shortest RSA key that is taken.",
            canonical=number(1024, 16384),
        ),
        ssh_option(
            name="RekeyLimit",
            value="size [time]",
            meaning="After how much data, and how much time, new keys are exchanged: `1G 1h`.",
            canonical=rekey_limit,
        ),
        ssh_option(
            name="AddressFamily",
            value="any|inet|inet6",
            meaning="Only IPv4 or only IPv6.",
            default="any",
            canonical=one_of("any", "inet", "inet6"),
        ),
        ssh_option(
            name="BindAddress",
            value="address",
            meaning="The address of this host from which to connect.",
            canonical=address,
        ),
        ssh_option(
            name="BindInterface",
            value="name",
            meaning="The network interface from whose address to connect.",
            canonical=interface,
        ),
        ssh_option(
            name="IPQoS",
            value="class",
            meaning="How the network is to treat the packets.",
            canonical=quality_of_service,
        ),
        ssh_option(
            name="LogLevel",
            value="level",
            meaning="How much ssh tells the journal, from `ERROR` to `DEBUG3`. `QUIET` and `FATAL` are the same as "
            "`ERROR`: what ssh says of a refused login ends the attempts.",
            canonical=one_of(
                *("error", "info", "verbose", "debug", "debug1", "debug2", "debug3"), quiet="error", fatal="error"
            ),
        ),
        sshfs_option(
            name="max_conns",
            value="number",
            meaning="Over how many connections the work is spread; more than one is for large files alone.",
            default="1",
            canonical=number(1, 100),
        ),
    ),
)
