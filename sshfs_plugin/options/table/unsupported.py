# SPDX-License-Identifier: MIT
"""What sshfs, FUSE, mount and ssh know and a volume can't have: refused where it would do harm, else ignored."""

from collections.abc import Mapping

_RUNS_A_COMMAND = "it would run a command of the volume's creator as root on this host"
_RUNS_THERE = "it would run a command on the server"
_BYPASSES = "the connection would bypass ssh and its checks"
_UNCHECKED = "it would bring in settings that this plugin has not checked"
_UNGUARDED = "it would undo what protects this host from the server"

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "KnownHostsCommand",
            "LocalCommand",
            "Match",
            "PermitLocalCommand",
            "PKCS11Provider",
            "ProxyCommand",
            "SecurityKeyProvider",
            "SmartcardDevice",
            "ssh_command",
            "XAuthLocation",
        ),
        _RUNS_A_COMMAND,
    ),
    **dict.fromkeys(("RemoteCommand", "sftp_server"), _RUNS_THERE),
    **dict.fromkeys(("directport", "passive", "slave"), _BYPASSES),
    **dict.fromkeys(("Include", "Tag"), _UNCHECKED),
    **dict.fromkeys(("dev", "suid"), _UNGUARDED),
    "addr": "it is for NFS, which Docker's own driver, local, mounts; here the server is a part of "
    "sshcmd=user@host:/dir",
    "HostName": "the server is the one that sshcmd names, so that what is checked is what is mounted",
    "NoHostAuthenticationForLocalhost": "say host_key_check=no if a server need not prove who it is",
    **dict.fromkeys(("dmask", "fmask"), "not every sshfs has it: say umask"),
    "nocopy": "it is said where the volume is used: -v NAME:/path:nocopy",
    "nosymfollow": "contain_symlinks, which is on, does what can be done",
    "RevokedHostKeys": "mark the key as @revoked in a known_hosts file, which the check reads, too",
    "id_rsa": "whoever may call docker volume inspect could read the key, put it into a file on this host (chmod 600) "
    "and say IdentityFile=path",
    **dict.fromkeys(
        ("ephemeral", "one_time"),
        "a volume stays until docker volume rm, but docker run --rm takes one along that it has made and that has no "
        "name (--mount type=volume,volume-driver=sshfs,... without source=)",
    ),
}
"""Options that a volume must not use, each with the reason that the user is given."""

HARMLESS: Mapping[str, str] = {
    "PermitLocalCommand": "no",
    **dict.fromkeys(("ephemeral", "one_time"), "false"),
    **dict.fromkeys(("KnownHostsCommand", "ProxyCommand", "RemoteCommand", "RevokedHostKeys"), "none"),
}
"""Options, each with the value that says no more than what holds anyway."""

ALWAYS_SO = "it is always so"
_BY_CREDENTIALS = "the key and the password that the volume has decide how to log in"
_BY_HOST_KEY_CHECK = "host_key_check, host_key and known_hosts decide which server is trusted"
_FORWARDS_NOTHING = "a volume's connection forwards nothing"
_FUSE_3 = "fuse 3 does it anyway, or has no such thing"
_MOUNT_TABLE = "it belongs into /etc/fstab"
_NAME_AS_IT_IS = "the name in sshcmd is used as it is"
_NO_TERMINAL = "there is no terminal and no session"
_NO_TICKET = "nobody has a Kerberos ticket here"
_OBSOLETE = "ssh no longer has it"
_SHARED = "the plugin shares connections by itself, and own_connection gives a volume one of its own"
_SERVER_KEEPS = "the server keeps it"
_SSHFS_PROTOCOL = "sshfs no longer has it"
_TALK = "what sshfs and ssh say is logged, and LogLevel=DEBUG makes ssh say more"
_UNIT = "the volume's unit sees to it"

IGNORED: Mapping[str, str] = {
    **dict.fromkeys(("nodev", "nosuid", "symfollow", "IdentitiesOnly"), ALWAYS_SO),
    **dict.fromkeys(
        (
            "AddKeysToAgent",
            "BatchMode",
            "ChallengeResponseAuthentication",
            "EnableSSHKeysign",
            "HostbasedAcceptedAlgorithms",
            "HostbasedAuthentication",
            "HostbasedKeyTypes",
            "KbdInteractiveAuthentication",
            "KbdInteractiveDevices",
            "NumberOfPasswordPrompts",
            "PasswordAuthentication",
            "password_stdin",
            "PreferredAuthentications",
            "PubkeyAuthentication",
        ),
        _BY_CREDENTIALS,
    ),
    **dict.fromkeys(
        (
            "CASignatureAlgorithms",
            "CheckHostIP",
            "FingerprintHash",
            "GlobalKnownHostsFile",
            "HashKnownHosts",
            "HostKeyAlias",
            "UpdateHostKeys",
            "VerifyHostKeyDNS",
            "VisualHostKey",
        ),
        _BY_HOST_KEY_CHECK,
    ),
    **dict.fromkeys(
        (
            "ClearAllForwardings",
            "DynamicForward",
            "ExitOnForwardFailure",
            "ForwardAgent",
            "ForwardX11",
            "ForwardX11Timeout",
            "ForwardX11Trusted",
            "GatewayPorts",
            "LocalForward",
            "PermitRemoteOpen",
            "RemoteForward",
            "StreamLocalBindMask",
            "StreamLocalBindUnlink",
            "Tunnel",
            "TunnelDevice",
        ),
        _FORWARDS_NOTHING,
    ),
    **dict.fromkeys(
        (
            "atomic_o_trunc",
            "async_read",
            "big_writes",
            "congestion_threshold",
            "hard_remove",
            "intr",
            "intr_signal",
            "large_read",
            "max_background",
            "max_readahead",
            "no_remote_flock",
            "no_remote_lock",
            "no_remote_posix_lock",
            "no_splice_move",
            "no_splice_read",
            "no_splice_write",
            "nonempty",
            "nopath",
            "parallel_direct_write",
            "parallel_direct_writes",
            "readdir_ino",
            "splice_move",
            "splice_read",
            "splice_write",
            "sync_read",
            "use_ino",
        ),
        _FUSE_3,
    ),
    **dict.fromkeys(
        ("_netdev", "auto", "comment", "defaults", "group", "noauto", "nofail", "nouser", "owner", "users"),
        _MOUNT_TABLE,
    ),
    **dict.fromkeys(
        (
            "CanonicalDomains",
            "CanonicalizeFallbackLocal",
            "CanonicalizeHostname",
            "CanonicalizeMaxDots",
            "CanonicalizePermittedCNAMEs",
            "ProxyUseFdpass",
        ),
        _NAME_AS_IT_IS,
    ),
    **dict.fromkeys(
        (
            "EnableEscapeCommandline",
            "EscapeChar",
            "ForkAfterAuthentication",
            "ObscureKeystrokeTiming",
            "RequestTTY",
            "SendEnv",
            "SessionType",
            "SetEnv",
            "StdinNull",
        ),
        _NO_TERMINAL,
    ),
    **dict.fromkeys(
        (
            "GSSAPIAuthentication",
            "GSSAPIClientIdentity",
            "GSSAPIDelegateCredentials",
            "GSSAPIKexAlgorithms",
            "GSSAPIKeyExchange",
            "GSSAPIRenewalForcesRekey",
            "GSSAPIServerIdentity",
            "GSSAPITrustDNS",
        ),
        _NO_TICKET,
    ),
    **dict.fromkeys(
        (
            "Cipher",
            "CompressionLevel",
            "Protocol",
            "ssh_protocol",
        ),
        _OBSOLETE,
    ),
    **dict.fromkeys(
        ("ChannelTimeout", "ConnectionAttempts", "ControlMaster", "ControlPath", "ControlPersist", "RefuseConnection"),
        _SHARED,
    ),
    **dict.fromkeys(
        (
            "atime",
            "diratime",
            "dirsync",
            "noatime",
            "nodiratime",
            "norelatime",
            "relatime",
            "nostrictatime",
            "strictatime",
        ),
        _SERVER_KEEPS,
    ),
    **dict.fromkeys(("unreliable_append", "writeback_cache"), _SSHFS_PROTOCOL),
    **dict.fromkeys(
        (
            "debug",
            "LogVerbose",
            "sshfs_debug",
            "sshfs_verbose",
            "SyslogFacility",
            "VersionAddendum",
            "WarnWeakCrypto",
        ),
        _TALK,
    ),
    **dict.fromkeys(
        (
            "auto_unmount",
            "blkdev",
            "blksize",
            "clone_fd",
            "delay_connect",
            "fsname",
            "IgnoreUnknown",
            "max_idle_threads",
            "max_threads",
            "no_check_root",
            "norellinks",
            "rellinks",
            "subdir",
            "subtype",
        ),
        _UNIT,
    ),
    **dict.fromkeys(("context", "defcontext", "fscontext", "rootcontext"), "a volume gets no SELinux labels"),
}
"""Options that change nothing about a volume, each with what the journal says about it when somebody uses it."""
