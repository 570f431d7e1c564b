# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# Part of scripts/demo: apt-get, and our own package.

is_booted_by_systemd() {
    [ -d /run/systemd/system ]
}

is_installed() { # package
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# No compiler is needed to build the package, so "build-essential" is not taken for granted. Downloads go where they
# are removed with the rest, and nothing is removed to make room for something else.
configure_apt() {
    mkdir -p "$WORK/archives/partial"
    cat >"$WORK/apt.conf" <<CONFIG
#clear APT::Build-Essential;
APT::Build-Essential { "dpkg-dev"; };
APT::Get::Assume-Yes "true";
APT::Get::Remove "false";
APT::Sandbox::User "root";
Acquire::Retries "3";
Dir::Cache::archives "$WORK/archives";
DPkg::Lock::Timeout "120";
Dpkg::Options { "--force-confdef"; "--force-confold"; };
Dpkg::Use-Pty "0";
CONFIG
}

plan() { # words of apt-get
    if ! apt-get -c "$WORK/apt.conf" --simulate "$@" >"$WORK/plan" 2>"$WORK/output"; then
        : >"$WORK/plan"
        return 1
    fi
}

would_download() { # words of apt-get
    apt-get -c "$WORK/apt.conf" --print-uris "$@" 2>"$WORK/output" | grep "^'" | grep -q -v "^'file:"
}

fetch() { # command that downloads
    since=$(now) grace=0 fetch_status=0
    bounded "$APT_LIMIT" "$@" || fetch_status=$?
    fetched=$((fetched + $(now) - since)) grace=$GRACE
    return "$fetch_status"
}

# Without them a bare machine knows no package; a machine without a network may know enough.
refresh_lists() {
    [ -z "$lists_are_fresh" ] || return 0
    lists_are_fresh=yes
    show 'apt-get update'
    began=$(now)
    if fetch apt-get -c "$WORK/apt.conf" update; then
        verdict ok "$began"
    else
        fail_step
        remark "Going on with the package lists that are there."
    fi
}

apt_get() { # words
    began=$(now) before=$fetched
    if ! plan "$@" || would_download "$@"; then
        refresh_lists
        began=$(now) before=$fetched
        plan "$@" || true
    fi
    show "apt-get $*"
    if [ ! -s "$WORK/plan" ]; then
        abandon
    elif grep -q '^Inst ' "$WORK/plan"; then
        ! would_download "$@" || fetch apt-get -c "$WORK/apt.conf" --download-only "$@" || abandon
        install "$@"
    fi
    verdict "ok, $(grep -c '^Inst [^ ]* (' "$WORK/plan") new" "$began"
    [ "$fetched" = "$before" ] || note "  $(seconds $((fetched - before))) of it to download"
}

install() { # words of apt-get
    # a line of what is replaced has the old version in brackets
    awk '$1 == "Inst" && $3 !~ /^\[/ { print $2 }' "$WORK/plan" >>"$WORK/packages"
    awk '$1 == "Inst" && $3 ~ /^\[/ { print $2 }' "$WORK/plan" >>"$WORK/upgraded"
    # dpkg must not be left half-way
    grace=$APT_LIMIT
    bounded "$APT_LIMIT" apt-get -c "$WORK/apt.conf" "$@" || abandon
    grace=$GRACE
}

packages_that_stay() {
    dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' |
        awk -v ours=$PACKAGE '
            NR == FNR { new[$1]; next }
            $1 == "installed" && $2 != ours && $2 in new { printf "%s ", $2 }' "$WORK/packages" -
}

list_packages() { # new ones, upgraded ones
    if [ -n "$1" ]; then
        heading "Packages of the distribution that were not installed before, and stay. What removes them:"
        echo
        echo "sudo apt-get purge $1" | fold -s -w 96 | sed 's/ *$//; s/^/  /; 2,$s/^/    /; $!s/$/ \\/'
    fi
    if [ -n "$2" ]; then
        heading "Packages that were upgraded for these: $2"
    fi
}

require_fuse() {
    [ -c /dev/fuse ] || modprobe fuse 2>/dev/null || true
    [ -c /dev/fuse ] || refuse "this machine has no /dev/fuse (a container gets it with --device /dev/fuse)"
    unshare --mount --propagation unchanged true 2>/dev/null ||
        refuse "root may not mount here (in a container it may with --privileged)"
}

install_package() {
    heading "1. The package"
    if is_installed $PACKAGE; then
        remark "$PACKAGE $(dpkg-query --show --showformat='${Version}' $PACKAGE) is installed already and is used as it is."
    else
        build_package
        remember package "$(way_to_remove)"
        apt_get install --no-install-recommends "$(echo "$WORK"/build/*.deb)"
    fi
}

build_package() {
    apt_get build-dep -P nocheck --no-install-recommends ./
    mkdir -p "$WORK/build/source"
    tar --exclude './.*' -c . | tar -x --no-same-owner -C "$WORK/build/source"
    grace=0
    run_quietly "cd $WORK/build/source &&
      DEB_BUILD_OPTIONS=nocheck dpkg-buildpackage -us -uc -b -Pnocheck --ignore-builtin-builddeps"
    grace=$GRACE
}

# Settings, keys and volumes that a package left behind when it was removed are not ours to purge.
way_to_remove() {
    if dpkg-query --status $PACKAGE >/dev/null 2>&1 || [ -e /etc/$PACKAGE ] || [ -e "${RECORDS%/*}" ]; then
        echo remove
    else
        echo purge
    fi
}

remove_package() { # remove or purge
    is_installed $PACKAGE || return 0
    others=$(other_volumes)
    if [ "$1" = purge ] && [ -n "$others" ] && ! is_private_engine; then
        remark "$PACKAGE stays, since it has volumes that the demo did not make: $others"
        return 1
    fi
    try "apt-get $1 --yes $PACKAGE" && rm -rf --one-file-system $API_DIRECTORY
}

other_volumes() {
    find "$RECORDS" -name '*.json' ! -name "$volume.json" -exec basename -a -s .json {} + 2>/dev/null
}
