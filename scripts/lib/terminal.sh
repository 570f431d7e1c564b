# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# Part of scripts/demo: what is seen.

set_up_terminal() {
    bold='' plain=''
    if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ] && [ -z "${NO_COLOR:-}" ]; then
        bold=$(printf '\033[1m') plain=$(printf '\033[0m')
    fi
}

usage() {
    sed -n 's/^# \{0,1\}//; 3,12p' "$0"
}

heading() {
    printf '\n%s%s%s\n' "$bold" "$1" "$plain"
}

note() {
    printf '  %s\n' "$*"
}

remark() {
    printf '\n  %s\n' "$*"
}

show() {
    printf '\n  $ %s%s%s\n' "$bold" "$1" "$plain"
}

refuse() {
    echo "demo: $*" >&2
    exit 1
}

# Hundredths of a second of a clock that nobody sets.
now() {
    read -r uptime _ </proc/uptime
    echo "${uptime%.*}${uptime#*.}"
}

seconds() {
    printf '%d.%02d s' $(($1 / 100)) $(($1 % 100))
}

verdict() { # word, since when
    printf '    %s, %s\n' "$1" "$(seconds $(($(now) - $2)))"
}
