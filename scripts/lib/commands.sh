# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# Part of scripts/demo: commands that are shown, run and timed, and processes that outlive them.

# A signal interrupts the wait for a command in the background, but not one in the foreground.
bounded() { # seconds, command
    status=0
    timeout -s KILL "$@" >"$WORK/output" 2>&1 </dev/null 9>&- &
    job=$!
    wait "$job" || status=$?
    job=''
    return "$status"
}

end_job() {
    [ -n "$job" ] || return 0
    await "$grace" has_ended "$job" || kill "$job"
    wait "$job" 2>/dev/null
    job=''
}

# What is shown is what is run, letter by letter.
attempt() { # command
    show "$1"
    began=$(now)
    bounded "$LIMIT" sh -c "$1"
}

run() { # command that works
    attempt "$1" || abandon
    print_output
    verdict ok "$began"
}

print_output() {
    sed '/^$/d; s/^/    /' "$WORK/output"
}

run_quietly() { # command whose output is for those who look for a fault
    attempt "$1" || abandon
    verdict ok "$began"
}

run_wrong() { # command that fails, words that its error has
    if attempt "$1" || ! grep -q "$2" "$WORK/output"; then
        echo "this should have failed with: $2" >>"$WORK/output"
        abandon
    fi
    print_output
    verdict 'failed, as it should' "$began"
}

try() { # command; tells whether it worked
    if attempt "$1"; then
        verdict ok "$began"
    else
        fail_step
        return 1
    fi
}

fail_step() {
    tail -n 20 "$WORK/output" | sed 's/^/    /'
    verdict FAILED "$began"
}

abandon() {
    fail_step
    show_logs
    exit 1
}

show_logs() {
    for log in "$WORK"/*.log "$WORK/ssh/log"; do
        [ -s "$log" ] || continue
        printf '\n  The end of %s:\n' "$log"
        tail -n 10 "$log" | cut -c 1-300 | sed 's/^/    /'
    done
    if is_booted_by_systemd && is_installed $PACKAGE; then
        printf '\n  The end of journalctl -u %s:\n' "$PACKAGE"
        timeout -s KILL 10 journalctl --quiet --no-pager -n 10 -u $PACKAGE | sed 's/^/    /'
    fi
}

await() { # seconds, condition
    deadline=$(($(now) + $1 * 100))
    shift
    until "$@"; do
        [ "$(now)" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# A pid alone would be that of another process some day.
is_ours() { # pid
    grep -q -s "SSHFS_DEMO=$id" "/proc/$1/environ"
}

is_over() { # pid
    ! is_ours "$1"
}

has_ended() { # pid, of a child too that was not waited for
    ! grep -q -s . "/proc/$1/cmdline"
}

# A session of its own: a Ctrl-C or a closed terminal is not for it.
serve() { # name, condition that tells that it answers, command
    show "$3 &"
    began=$(now)
    setsid env -i --chdir=/ SSHFS_DEMO="$id" PATH="$PATH" HOME=/root LC_ALL=C.UTF-8 sh -c "exec $3" \
        >"$WORK/$1.log" 2>&1 </dev/null 9>&- &
    server=$!
    remember process "$server" "$1"
    await 60 answers_or_ended "$2" || abandon
    "$2" || abandon
    verdict ok "$began"
}

answers_or_ended() { # condition
    "$1" || has_ended "$server"
}

remove_process() { # pid, name
    is_ours "$1" || return 0
    show "kill $1   # $2"
    began=$(now)
    kill "$1"
    if ! await 20 is_over "$1"; then
        kill -KILL "$1"
        await 5 is_over "$1" || return 1
    fi
    verdict ok "$began"
}
