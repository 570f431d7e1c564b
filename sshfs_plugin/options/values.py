# SPDX-License-Identifier: MIT
"""The checks of options' values: each takes a text and returns its one canonical spelling.

They raise ValueError with the end of a sentence, which follows the option's name in the error that a user reads.
"""

import base64
import hashlib
import ipaddress
import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal

from sshfs_plugin import errors
from sshfs_plugin.volume import LARGEST_PORT, LONGEST_PASSWORD, SSH_PORT, Remote, volume_name

YES, NO, NONE = "yes", "no", "none"
SSHFS = "sshfs"
_TRUE = {"", "yes", "true", "on", "1"}
_FALSE = {"no", "false", "off", "0"}

_FORBIDDEN = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's control characters, surrogates and line ends. Unusual blanks and joiners occur in file names."""

_NO_CHARACTER = re.compile(
    "[\ufdd0-\ufdef" + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF)) + "]"
)


def flag(text: str) -> str:
    """Check a switch; without a value it is on."""
    if text.casefold() in _TRUE:
        return YES
    if text.casefold() in _FALSE:
        return NO
    raise ValueError("is a switch: give it no value, or yes or no")


def number(lowest: int, highest: int, told_by: str = "") -> Callable[[str], str]:
    """Return the check for a whole number between two bounds; for a name, a command may tell it."""

    def canonical(text: str) -> str:
        if not re.fullmatch(r"-?[0-9]{1,10}", text) or not lowest <= int(text) <= highest:
            hint = f"; {told_by} tells that of a name" if told_by and re.match("[^-0-9]", text) else ""
            raise ValueError(f"must be a number from {lowest} to {highest}, not {text!r}{hint}")
        return str(int(text))

    return canonical


def port(text: str) -> str:
    """Check a TCP port; an empty one means 22, as for vieux/sshfs."""
    return number(1, LARGEST_PORT)(text or "22")


_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


def duration(longest: int) -> Callable[[str], str]:
    """Return the check for a duration from 1 to ``longest`` seconds, in ssh's notation (``30``, ``1m30s``)."""

    def canonical(text: str) -> str:
        parts = re.findall(r"([0-9]{1,6})([smh]|$)", text.casefold())
        seconds = sum(int(amount) * _SECONDS[unit] for amount, unit in parts)
        well_formed = "".join(amount + unit for amount, unit in parts) == text.casefold() != ""
        if well_formed and seconds == 0:
            raise ValueError("must not be 0: containers would wait for a server that is away without limit")
        if not well_formed or seconds > longest:
            raise ValueError(f"must be a time from 1 to {longest} seconds, such as 30 or 1m, not {text!r}")
        return str(seconds)

    return canonical


def one_of(*choices: str, **spellings: str) -> Callable[[str], str]:
    """Return the check for one of some words; ``spellings`` maps other spellings to them."""

    def canonical(text: str) -> str:
        chosen = spellings.get(text.casefold(), text.casefold())
        if chosen not in choices:
            possible = " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))
            raise ValueError(f"must be {possible}, not {text!r}")
        return chosen

    return canonical


def seconds(text: str) -> str:
    """Check a duration that may have a fraction."""
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,6})?", text):
        raise ValueError(f"must be a number of seconds, not {text!r}")
    return f"{Decimal(text).normalize():f}"


def words(separator: str, *choices: str, **meanings: str) -> Callable[[str], str]:
    """Return the check for a list of some words; ``meanings`` maps others to a list of these, or to nothing."""

    def canonical(text: str) -> str:
        meant = (meanings.get(word, word) for word in text.casefold().split(separator))
        chosen = [word for some in meant if some for word in some.split(separator)]
        if unknown := [word for word in chosen if word not in choices]:
            raise ValueError(
                f"is a list of {', '.join(choices)} with {separator!r} between them; {unknown[0]!r} is not one of them"
            )
        return separator.join(chosen)

    return canonical


def _matching(form: str, what: str) -> Callable[[str], str]:
    """Return the check for text of a form, a regular expression that admits nothing that ssh or sshfs would misread."""

    def canonical(text: str) -> str:
        if not re.fullmatch(form, text):
            raise ValueError(f"must be {what}, not {text!r}")
        return text

    return canonical


algorithms = _matching(r"[-+^]?[a-zA-Z0-9@.*?!-]+(,[a-zA-Z0-9@.*?!-]+)*", "algorithms that ssh -Q lists, with commas")
address = _matching(r"[a-zA-Z0-9_:][a-zA-Z0-9_.:%-]*", "an address or a host name")
charset = _matching(r"[a-zA-Z0-9][a-zA-Z0-9_.:-]*", "a character set that iconv -l lists")
interface = _matching(r"[a-zA-Z0-9_][a-zA-Z0-9_.:@-]{0,14}", "the name of a network interface")
quality_of_service = _matching(r"[a-zA-Z0-9]+( [a-zA-Z0-9]+)?", "one or two classes of traffic as ssh_config has them")
rekey_limit = _matching(
    r"(default|none|[0-9]{1,12}[KMGkmg]?)( (none|([0-9]{1,6}[smhdwSMHDW])*[0-9]{0,6}))?",
    "an amount and a time such as '1G 1h'",
)


def plain_text(text: str) -> str:
    """Check text of any form: only control characters, line breaks and what is no character at all are refused."""
    if any(unicodedata.category(character) in _FORBIDDEN for character in text):
        raise ValueError("must not hold line breaks or control characters")
    # systemd refuses a whole file that has one
    if _NO_CHARACTER.search(text):
        raise ValueError("must not hold what Unicode says is no character, such as U+FFFF")
    return text


def password(text: str) -> str:
    """Check a password."""
    if len(plain_text(text).encode()) > LONGEST_PASSWORD:
        raise ValueError(f"must not be longer than the {LONGEST_PASSWORD} bytes that ssh reads")
    return text


_INTO_ITS_FILE = "write host, user and password_file into /etc/docker-volume-sshfs/remotes.d/NAME.conf"


def remote(text: str) -> str:
    """Check the name of a remote, which may be what the name of a volume may be: there is a file of that name."""
    try:
        return volume_name(text)
    except errors.InvalidVolumeName as error:
        if re.search(":.*@", text):
            raise ValueError(f"has no place for a password: {_INTO_ITS_FILE} and say remote=NAME") from None
        raise ValueError(f"must be the name of a remote, and {error.hint}, not {text!r}") from None


def jump_host(text: str) -> str:
    """Check the name of a remote that is a jump host, or ``none``."""
    if text.casefold() == NONE:
        return NONE
    if re.search(":.*@", text):
        raise ValueError(f"has no place for a password: {_INTO_ITS_FILE} and say ProxyJump=NAME")
    if re.search(r"[@:,/\[]", text):
        raise ValueError(
            f"must be the name of a remote, not {text!r}: write host and user of the jump host into "
            "/etc/docker-volume-sshfs/remotes.d/NAME.conf and say ProxyJump=NAME"
        )
    return remote(text)


def secret_path(text: str) -> str:
    """Check the path of a password file. The error does not quote the text: it may be the password itself."""
    try:
        return path(text)
    except ValueError:
        raise ValueError("must be the path of a file, absolute or from ~/ (root's home)") from None


def secret_name(text: str) -> str:
    """Check the name of a secret, which is that of a file. The error does not quote the text: it may be the secret."""
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}", text):
        raise ValueError("must be the name of a secret, of letters, digits, '_', '.' and '-', and no '.' at its start")
    return text


def path(text: str) -> str:
    """Check the path of a file on this host."""
    if not plain_text(text).startswith(("/", "~/")):
        raise ValueError(f"must be an absolute path or begin with ~/ (root's home), not {text!r}")
    if "${" in text:
        raise ValueError("must not hold '${', which ssh would replace")
    return text


def known_hosts_file(text: str) -> str:
    """Check the path of a file of host keys; ``none`` stands for an empty file, as in ssh_config."""
    return "/dev/null" if text.casefold() == "none" else path(text)


def socket(text: str) -> str:
    """Check the path of a socket on this host, or ``none``."""
    if text.casefold() == NONE:
        return NONE
    if not plain_text(text).startswith("/"):
        raise ValueError(f"must be the absolute path of a socket on this host, not {text!r}")
    return path(text)


def path_for_sshfs(text: str) -> str:
    """Check the path of a file on this host that sshfs opens itself; sshfs does not expand ``~``."""
    if not plain_text(text).startswith("/"):
        raise ValueError(f"must be an absolute path on this host, not {text!r}")
    return text


def file_system(text: str) -> str:
    """Check the type of a file system, as after ``mount -t``."""
    if text.casefold() not in (SSHFS, f"fuse.{SSHFS}"):
        raise ValueError(f"must be {SSHFS}, not {text!r}: Docker's own driver, local, is for other file systems")
    return SSHFS


def umask(text: str) -> str:
    """Check a mask of permissions."""
    if not re.fullmatch(r"[0-7]{1,4}", text):
        raise ValueError(f"must be an octal number such as 022, not {text!r}")
    return f"{int(text, 8):03o}"


def fingerprint(text: str) -> str:
    """Check a fingerprint in the form that ``ssh-keygen -l`` prints."""
    digest = text.removeprefix("SHA256:").rstrip("=")
    try:
        decoded = base64.b64decode(digest + "=", validate=True)
    except ValueError:
        decoded = b""
    if not text.startswith("SHA256:") or len(decoded) != hashlib.sha256().digest_size:
        raise ValueError(f"must be a fingerprint such as ssh-keygen -l prints, SHA256:..., not {text!r}")
    return f"SHA256:{digest}"


_SSHCMD = re.compile(r"(?:(?P<user>[^:/]*)@)?(?:\[(?P<address>[^\]]*)\]|(?P<host>[^:@/\[\]]*)):(?P<directory>.*)")
_LOGIN_WITH_PASSWORD = re.compile(r"[^:/@\[]*:(?!/|\.\.?/|~/)([^/]*@|.*@(\[|[^:/@]+:))")
"""How ``user:password@host`` begins; sshfs would take it for a directory of the host ``user``."""
_ITS_PLACE = "a password goes into a file, whose path is the value of 'password_file'"
NO_PLACE = f"has no place for a password: {_ITS_PLACE}"
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)?//")
_HOST = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]*")


_ZONE = re.compile(r"[a-zA-Z0-9_.-]+")


def is_ipv6(text: str) -> bool:
    """Tell whether a text is an IPv6 address, perhaps with a zone; a zone with characters special to ssh is refused."""
    address, percent, zone = text.partition("%")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return not percent or bool(_ZONE.fullmatch(zone))


_NOT_IN_LOGINS = re.compile(r"""^-|['"`;&<>|(){}]|\s-|\\$|[\[\]]""")
"""What ssh refuses in a login name (its function ``valid_ruser``), and brackets, which sshfs drops."""


def _is_user(text: str) -> bool:
    return bool(text) and text == text.strip() and not _NOT_IN_LOGINS.search(text)


def user(text: str) -> str:
    """Check a login name; only what ssh itself would refuse is refused, since servers have rules of their own."""
    if re.match("[^@]*:", plain_text(text)):
        raise ValueError(NO_PLACE)
    if not _is_user(text) or {"/", ":"} & set(text):  # sshfs takes what follows a colon for the directory
        shown = re.sub("(?<=:)[^/].*", "...", text)  # a password may stand there
        raise ValueError(f"must be a login name, not {shown!r}")
    return text


def host(text: str) -> str:
    """Check the name or address of a server, an IPv6 address with or without brackets."""
    if re.match("[^@]*:[^@]*@", plain_text(text)):
        raise ValueError(NO_PLACE)
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if is_ipv6(bare):
        return str(ipaddress.IPv6Address(bare))
    if not _HOST.fullmatch(text):
        hint = "; a port goes into the option 'port'" if re.search(r":[0-9]+$", text) else ""
        raise ValueError(f"must be the name or address of a host, not {text!r}{hint}")
    return text


def _begins_at_home(text: str) -> bool:
    return text == "~" or text.startswith("~/")


def directory(text: str) -> str:
    """Check a remote directory: ``~`` is the login directory, and slashes at the end are dropped."""
    if _begins_at_home(plain_text(text)):
        text = text[1:].lstrip("/")
        if _begins_at_home(text):
            text = f"./{text}"  # a directory of that name
    if text.strip("/"):
        return text.rstrip("/")
    return "/" if text else ""


def sshcmd(text: str) -> Remote:
    """Read ``user@host:/dir``, in the forms that sshfs itself takes.

    Only what :class:`ipaddress.IPv6Address` accepts may stand in brackets: sshfs once took options from there
    (CVE-2026-48711).

    Returns:
        The remote, with an empty user if none is named, and with port 22.

    Raises:
        ValueError: It is none of those forms.
    """
    form = "must look like user@host:/dir"
    if _URL.match(plain_text(text)):
        shown = re.sub(r"//.*@", "//...@", text)  # a password may stand there
        hint = f", and {_ITS_PLACE}" if re.search("//.*:.*@", text) else ""
        raise ValueError(f"{form}, not like the URL {shown!r}; a port goes into the option 'port'{hint}")
    if _LOGIN_WITH_PASSWORD.match(text):
        raise ValueError(f"{NO_PLACE}; a directory with an '@' in its name is ./NAME")
    parts = _SSHCMD.fullmatch(text)
    if not parts:
        raise ValueError(f"{form}, with a colon between host and directory, not {text!r}")
    login, address, name = parts["user"], parts["address"], parts["host"]
    if login is not None and not _is_user(login):
        raise ValueError(f"{form}; {login!r} can't be a login name")
    if address is not None:
        if ":" in address and "@" in address:
            raise ValueError(NO_PLACE)
        if not is_ipv6(address):
            raise ValueError(f"may have an IPv6 address in brackets, but {address!r} is none")
        name = str(ipaddress.IPv6Address(address))  # the form under which ssh looks its host key up
    elif is_ipv6(bare := text.rpartition("@")[2].rpartition(":")[0]):
        raise ValueError(f"{form}; an IPv6 address goes in brackets, [{bare}]:/dir")
    elif not _HOST.fullmatch(name):
        raise ValueError(f"{form}; {name!r} can't be the name of a host")
    return Remote(user=login or "", host=name, port=SSH_PORT, directory=directory(parts["directory"]))
