# SPDX-License-Identifier: MIT
"""Options that say how to log in, and which host keys to trust."""

from sshfs_plugin.options.table.row import Option, Shape, Topic
from sshfs_plugin.options.values import (
    NONE,
    fingerprint,
    known_hosts_file,
    one_of,
    password,
    path,
    secret_name,
    secret_path,
    socket,
)
from sshfs_plugin.volume import HostKeyCheck

LOGIN = Topic(
    "Logging in",
    (
        Option(
            name="IdentityFile",
            aliases=("identity_file",),
            value="path",
            meaning="The private key on this host; `~` is root's home. Without it and without a password: "
            "`/etc/docker-volume-sshfs/id_ed25519` if it exists, else root's `~/.ssh/id_*`.",
            canonical=path,
            shape=Shape.LIST,
        ),
        Option(
            name="CertificateFile",
            value="path",
            meaning="The certificate of that key, signed by a CA that the server trusts. Without it, a file of the "
            "key's name and `-cert.pub` is used if there is one.",
            canonical=path,
            shape=Shape.LIST,
        ),
        Option(
            name="password_file",
            value="path",
            meaning="A file on this host, of mode 600 and not below /tmp, whose first line is the password; it is "
            "read at each connection.",
            canonical=secret_path,
            shape=Shape.LIST,
        ),
        Option(
            name="secret",
            value="name",
            meaning="A private key or a password by the name of a secret: a credential that systemd hands to the "
            "service, else the file `/etc/docker-volume-sshfs/secrets.d/NAME`. See credentials.md.",
            canonical=secret_name,
        ),
        Option(
            name="passphrase_secret",
            value="name",
            meaning="The secret that is the passphrase of the private key, which `IdentityFile` or `secret` names.",
            canonical=secret_name,
        ),
        Option(
            name="IdentityAgent",
            aliases=("identity_agent",),
            value="path",
            meaning="The socket on this host of an ssh-agent, which root runs and which answers without a person at "
            "hand: the keys that it holds are used. It can't be below /tmp.",
            default=NONE,
            canonical=socket,
            shape=Shape.LIST,
        ),
        Option(
            name="password",
            value="text",
            meaning="The password. Docker keeps it readable in `docker volume inspect`: better ways are a key and "
            "`password_file`.",
            canonical=password,
            shape=Shape.FREE,
        ),
    ),
)

HOST_KEYS = Topic(
    "Trusting the server",
    (
        Option(
            name="host_key_check",
            aliases=("StrictHostKeyChecking",),
            value="accept-new|yes|no",
            meaning="`accept-new` trusts a server at the first contact and insists on the same host key from then on; "
            "`yes` takes only servers that are known already, to this plugin, to root's `~/.ssh/known_hosts` or to "
            "`/etc/ssh/ssh_known_hosts`; `no` trusts anybody.",
            default=HostKeyCheck.ACCEPT_NEW.value,
            canonical=one_of("accept-new", "yes", "no", ask="yes", true="yes", off="no", false="no"),
        ),
        Option(
            name="host_key",
            value="SHA256:...",
            meaning="Only the server whose host key has this fingerprint is let in (`ssh-keygen -lf` prints it).",
            canonical=fingerprint,
        ),
        Option(
            name="known_hosts",
            aliases=("UserKnownHostsFile",),
            value="path",
            meaning="A file of host keys on this host that is read in place of root's and the system's; the keys that "
            "this plugin has accepted count as well.",
            canonical=known_hosts_file,
            shape=Shape.LIST,
        ),
    ),
)
