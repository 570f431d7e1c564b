# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# Part of scripts/demo: an engine that can be used, and the plugin behind its socket.

use_docker() {
    heading "3. Docker"
    remember_units
    if [ ! -S /run/docker.sock ] || ! engine_answers; then
        install_docker
        start_engine || start_engine_by_hand
    elif engine_is_of_this_machine; then
        remark "A Docker engine answers and is used."
    else
        remark "What answers at /run/docker.sock is Podman, or an engine that sees other files than this machine"
        note "(of a snap, or outside of this container). It can't use the plugin and is left alone."
        install_docker
        start_engine_by_hand
    fi
    run "docker version --format '{{.Server.Version}}'"
}

engine_answers() {
    timeout -s KILL 20 docker version >"$WORK/engine-version" 2>/dev/null
}

# One that sees other files, as that of a snap or of the host around a container does, can use neither the plugin nor
# what it mounts. Podman serves this API as well, but has its own list of plugins.
engine_is_of_this_machine() {
    engine_process=$(/usr/bin/python3 -c '
import socket, struct
client = socket.socket(socket.AF_UNIX)
client.connect("/run/docker.sock")
print(struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])')
    seen=$(stat -c %d:%i "/proc/$engine_process/root$WORK/probe" 2>/dev/null) || return 1
    [ "$seen" = "$(stat -c %d:%i "$WORK/probe")" ] && ! grep -q Podman "$WORK/engine-version"
}

# An engine that is installed but stopped is taken as it is: docker.io would replace docker-ce.
install_docker() {
    if ! command -v dockerd >/dev/null; then
        # its units would take the socket over
        ! is_booted_by_systemd || ! engine_answers || refuse "docker.io can't be installed beside it"
        words='docker.io'
        # newer releases have the command line in a package of its own
        ! apt-cache show docker-cli >/dev/null 2>&1 || words="$words docker-cli"
        # where the kernel enforces profiles, the engine needs their parser
        ! grep -q -s Y /sys/module/apparmor/parameters/enabled || words="$words apparmor"
        # shellcheck disable=SC2086 # several packages
        apt_get install --no-install-recommends $words
        stop_init_script
    fi
}

# The package of a system that systemd did not boot starts its engine in this way, with a bridge and iptables.
stop_init_script() {
    if ! is_booted_by_systemd && [ -s /run/docker-ssd.pid ]; then
        run_quietly 'service docker stop'
    fi
}

# What did not run before this run must not run after it.
remember_units() {
    is_booted_by_systemd || return 0
    for unit in containerd.service docker.socket docker.service; do
        systemctl --quiet is-active $unit || remember units $unit
    done
}

remove_units() { # unit
    ! systemctl --quiet is-active "$1" || try "systemctl stop $1"
}

start_engine() {
    is_booted_by_systemd || return 1
    if ! try 'systemctl start docker.service' || ! await 30 engine_answers; then
        remark "The engine does not run here as it is set up, so that one is started with few needs."
        return 1
    fi
}

# It touches neither the network nor the data of an installed engine.
start_engine_by_hand() {
    for directory in /etc/docker /run/docker /run/containerd; do
        [ -e $directory ] || remember skeleton $directory
    done
    [ -e /etc/docker/key.json ] || remember file /etc/docker/key.json
    mkdir "$WORK/docker"
    cat >"$WORK/docker/containerd.toml" <<CONFIG
version = 2
root = "$WORK/docker/containerd/root"
state = "$WORK/docker/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$WORK/docker/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$WORK/docker/containerd/opt"
CONFIG
    cat >"$WORK/docker/daemon.json" <<CONFIG
{
  "hosts": ["unix://$WORK/docker/docker.sock"],
  "containerd": "$WORK/docker/containerd.sock",
  "data-root": "$WORK/docker/data",
  "exec-root": "$WORK/docker/exec",
  "pidfile": "$WORK/docker/pid",
  "storage-driver": "vfs",
  "bridge": "none",
  "iptables": false,
  "ip6tables": false
}
CONFIG
    # without one of its own it would use that of an installed engine, and mix its containers with theirs
    serve containerd containerd_answers "containerd --config $WORK/docker/containerd.toml"
    echo "unix://$WORK/docker/docker.sock" >"$WORK/engine"
    load_run
    serve dockerd engine_answers "dockerd --config-file $WORK/docker/daemon.json"
    show "export DOCKER_HOST=$DOCKER_HOST"
}

containerd_answers() {
    [ -S "$WORK/docker/containerd.sock" ]
}

is_private_engine() {
    [ "$DOCKER_HOST" != $SYSTEM_ENGINE ]
}

start_plugin() {
    heading "4. The plugin"
    if is_booted_by_systemd; then
        start_socket
    elif api_answers; then
        remark "Its API answers at $API_DIRECTORY/sshfs.sock and is used."
    else
        start_api_by_hand
    fi
}

start_socket() {
    if ! systemctl --quiet is-active $PACKAGE.socket; then
        remember units $PACKAGE.service
        remember units $PACKAGE.socket
        run_quietly "systemctl start $PACKAGE.socket"
    fi
    run "systemctl is-active $PACKAGE.socket"
}

# What the units do where systemd is PID 1.
start_api_by_hand() {
    remark "systemd did not boot this machine, so its API is started by hand."
    [ -e $API_DIRECTORY ] || remember directory $API_DIRECTORY
    [ -e $API_DIRECTORY/sshfs.spec ] || remember file $API_DIRECTORY/sshfs.spec
    mkdir -p $API_DIRECTORY
    chmod 0700 $API_DIRECTORY
    serve plugin api_answers "gunicorn -c python:sshfs_plugin.gunicorn_conf --bind unix:$API_DIRECTORY/sshfs.sock"
    run "echo unix://$API_DIRECTORY/sshfs.sock >$API_DIRECTORY/sshfs.spec"
}

api_answers() {
    timeout -s KILL 10 /usr/bin/python3 -c '
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.sendall(b"GET / HTTP/1.0\r\n\r\n")
sys.exit(not client.recv(1))' $API_DIRECTORY/sshfs.sock 2>/dev/null
}
