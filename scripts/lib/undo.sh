# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# Part of scripts/demo: what the run makes is on record before it is made, and removed by that record.

# The things of a run stand in a file before they are made, since this script may be killed at any time.
remember() { # kind, words
    echo "$*" >>"$WORK/undo"
}

remove() { # kind, words
    kind=$1
    shift
    case $kind in
    containers) remove_containers "$@" ;;
    volume) remove_volume "$@" ;;
    image) remove_image "$@" ;;
    process) remove_process "$@" ;;
    units) remove_units "$@" ;;
    server) remove_server "$@" ;;
    package) remove_package "$@" ;;
    file) rm -f "$1" ;;
    skeleton) find "$1" -depth -type d -empty -delete 2>/dev/null || true ;;
    directory) remove_directory "$@" ;;
    esac
}

# The last thing goes first. What can't be removed stays on record, for the next --clean.
clean_up() {
    [ -s "$WORK/undo" ] || return 0
    load_run
    tac "$WORK/undo" >"$WORK/order"
    : >"$WORK/left"
    while read -r line <&3; do
        # shellcheck disable=SC2086 # a line is a list of words
        remove $line || echo "$line" >>"$WORK/left"
    done 3<"$WORK/order"
    tac "$WORK/left" >"$WORK/undo"
    if [ -s "$WORK/undo" ]; then
        heading "Not all could be removed. Another try: sudo ./scripts/demo --clean"
        return 1
    fi
}

load_run() {
    read -r id <"$WORK/id"
    volume=demo-photos-$id
    image=sshfs-demo:$id
    read -r DOCKER_HOST <"$WORK/engine"
    export DOCKER_HOST
}

begin_run() {
    mkdir -p "${WORK%/*}"
    if ! mkdir "$WORK" 2>/dev/null; then
        lock_run
        refuse "an earlier demo is still here; remove it first: sudo ./scripts/demo --clean"
    fi
    lock_run
    od -An -N3 -tx1 /dev/urandom | tr -d ' ' >"$WORK/id"
    echo $SYSTEM_ENGINE >"$WORK/engine"
    : >"$WORK/undo"
    : >"$WORK/packages"
    : >"$WORK/upgraded"
    load_run
}

# The kernel lets go of it with this process; commands don't get the descriptor.
lock_run() {
    exec 9>"$WORK/lock"
    flock --nonblock 9 || refuse "another demo is running"
}

require_executable() {
    printf '#!/bin/sh\n' >"$WORK/probe"
    chmod 0755 "$WORK/probe"
    "$WORK/probe" 2>/dev/null || refuse "no program can be started below ${WORK%/*}: is it mounted with noexec?"
}

# An engine that was killed may have left mounts there.
remove_directory() { # path
    [ -d "$1" ] || return 0
    show "rm -r $1"
    began=$(now)
    findmnt --raw --noheadings --output TARGET | grep "^$1/" | tac | while read -r mountpoint; do
        timeout -s KILL 10 umount --lazy "$mountpoint" || true
    done
    rm -rf --one-file-system "$1" || return 1
    verdict ok "$began"
}
