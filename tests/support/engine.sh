# shellcheck shell=bash
# A Docker engine for the scripts of this repo: finds the one that answers, or else installs and starts one, and
# ends it again if it was started here. Sourced after say.sh and packages.sh. Images are images.sh's affair, and
# engines inside network namespaces (several hosts on one machine) are hosts.sh's.

ENGINE_SOCKET=/var/run/docker.sock
ENGINE_RUN=/var/run/kgit-engine
ENGINE_PIDFILE=$ENGINE_RUN/dockerd.pid
ENGINE_LOG=${ENGINE_LOG:-/tmp/kgit-dockerd.log}
# A cold engine on a small machine needs seconds; one that restores a hundred containers needs tens of them.
ENGINE_START_SECONDS=90
# dockerd gives containers 15 s to end before it goes itself.
ENGINE_STOP_SECONDS=30
ENGINE_STARTED_HERE=

# Makes sure that an engine answers. With "keep" it outlives the calling script.
engine_up() { # [keep]
    if engine_answers; then
        engine_adopt "${1:-}"
        say "using the Docker engine that runs already ($(engine_version))"
        return
    fi
    [ -z "${DOCKER_HOST:-}" ] ||
        die "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST" "start it, or unset DOCKER_HOST to let this script start one"
    engine_install
    engine_start "${1:-}"
    say "the Docker engine answers ($(engine_version))"
}

# Ends the engine if this script started it; containers end with it. Safe to call twice, and from a trap.
engine_down() {
    [ -n "$ENGINE_STARTED_HERE" ] || return 0
    say "stopping the Docker engine that this script started"
    case $ENGINE_STARTED_HERE in
    systemd) as_root systemctl stop docker.service docker.socket >/dev/null 2>&1 ;;
    *) engine_end "$ENGINE_STARTED_HERE" ;;
    esac
    ENGINE_STARTED_HERE=
}

engine_answers() { docker_cli version --format '{{.Server.Version}}' >/dev/null 2>&1; }
engine_version() { docker_cli version --format 'version {{.Server.Version}}, API {{.Server.APIVersion}}' 2>/dev/null; }

# The socket belongs to root and to its group, in which a user who has just installed the engine isn't yet.
docker_cli() {
    if [ -n "${DOCKER_HOST:-}" ] || [ ! -S "$ENGINE_SOCKET" ] || [ -w "$ENGINE_SOCKET" ]; then
        docker "$@"
    else
        as_root docker "$@"
    fi
}

engine_install() {
    need_commands dockerd=docker.io ip=iproute2 iptables=iptables setsid=util-linux pgrep=procps
    # Newer releases have the command in a package of its own.
    need_commands docker=docker-cli
    # Without them the engine trusts no registry.
    [ -e /etc/ssl/certs/ca-certificates.crt ] || install_packages ca-certificates
    PATH="$PATH:/usr/sbin:/sbin"
}

engine_start() { # [keep]
    if [ -d /run/systemd/system ] && systemctl cat docker.service >/dev/null 2>&1; then
        say "starting the Docker engine (systemctl start docker)"
        as_root systemctl start docker.service
        ENGINE_STARTED_HERE=systemd
    else
        say "starting the Docker engine by hand, since no systemd runs here (log: $ENGINE_LOG)"
        engine_clean_leftovers
        engine_start_by_hand
        ENGINE_STARTED_HERE=$(cat "$ENGINE_PIDFILE")
        engine_note_owner "${1:-}"
    fi
    engine_await
    [ "${1:-}" != keep ] || ENGINE_STARTED_HERE=
}

# The machine's own firewall stays as it is: containers reach each other and this host, and images are pulled by the
# engine itself. KGIT_DOCKERD_ARGS="" brings dockerd's own rules back, and with them the containers' way out.
engine_start_by_hand() {
    local args=${KGIT_DOCKERD_ARGS---iptables=false --ip6tables=false --ip-forward=false --ip-masq=false}
    as_root mkdir -p "$ENGINE_RUN"
    # Its own session: Ctrl-C at the script's terminal must reach kgit first, and the engine only afterwards.
    # No inherited descriptor: a lock or a pipe of ours would otherwise stay open for as long as the engine runs.
    (
        close_inherited_descriptors
        # shellcheck disable=SC2086 # several arguments in one variable is the point
        as_root setsid --fork dockerd --pidfile "$ENGINE_PIDFILE" --group "$(id -gn)" $args </dev/null >"$ENGINE_LOG" 2>&1
    )
    local left=$((ENGINE_START_SECONDS * 10))
    until process_is "$(cat "$ENGINE_PIDFILE" 2>/dev/null)" dockerd; do
        [ "$left" -gt 0 ] || engine_failed "it wrote no pid"
        left=$((left - 1))
        sleep 0.1
    done
}

close_inherited_descriptors() {
    local path fd
    for path in /proc/self/fd/*; do
        fd=${path##*/}
        [ "$fd" -le 2 ] || eval "exec $fd>&-" 2>/dev/null || true
    done
}

engine_await() {
    local left=$((ENGINE_START_SECONDS * 5))
    until engine_answers; do
        [ "$ENGINE_STARTED_HERE" = systemd ] || process_is "$ENGINE_STARTED_HERE" dockerd ||
            engine_failed "it ended right after its start"
        [ "$left" -gt 0 ] || engine_failed "it does not answer after $ENGINE_START_SECONDS s"
        left=$((left - 1))
        sleep 0.2
    done
}

engine_failed() {
    tail -n 8 "$ENGINE_LOG" >&2 || true
    die "the Docker engine did not start: $1" "its whole log is $ENGINE_LOG"
}

# What a killed engine leaves behind: pid files whose numbers may be other processes' by now (dockerd refuses to
# start, or waits for a containerd that never answers), and its containerd, which would hold the data's lock.
# The docker0 bridge may stay: dockerd takes it over.
engine_clean_leftovers() {
    local file pid
    for file in "$ENGINE_PIDFILE" /var/run/docker.pid; do
        pid=$(cat "$file" 2>/dev/null) || continue
        process_is "$pid" dockerd && die "dockerd runs as process $pid, but does not answer" "end it, then run this again"
        as_root rm -f "$file"
    done
    file=/var/run/docker/containerd/containerd.pid
    if pid=$(cat "$file" 2>/dev/null); then
        process_is "$pid" containerd && end_process "$pid" 10
        as_root rm -f "$file"
    fi
    as_root rm -f "$ENGINE_SOCKET" /var/run/docker/containerd/containerd*.sock*
}

# The owner is the script that will end the engine; a script that was killed can't, so the next one takes over.
engine_note_owner() { # [keep]
    local owner=$$
    [ "${1:-}" != keep ] || owner=keep
    printf '%s\n' "$owner" | as_root tee "$ENGINE_RUN/owner" >/dev/null
}

engine_adopt() { # [keep]
    local owner pid
    owner=$(cat "$ENGINE_RUN/owner" 2>/dev/null) || return 0
    pid=$(cat "$ENGINE_PIDFILE" 2>/dev/null) || return 0
    process_is "$pid" dockerd || return 0
    if [ "$owner" = keep ] || [ -d "/proc/$owner" ]; then return 0; fi
    note "its script was killed: this one will stop it"
    engine_note_owner "${1:-}"
    [ "${1:-}" = keep ] || ENGINE_STARTED_HERE=$pid
}

engine_end() { # PID
    local containerd
    containerd=$(pgrep -P "$1" -x containerd || true)
    end_process "$1" "$ENGINE_STOP_SECONDS"
    # dockerd ends its containerd itself, unless it had to be killed.
    [ -z "$containerd" ] || ! process_is "$containerd" containerd || end_process "$containerd" 10
    as_root rm -f "$ENGINE_PIDFILE" "$ENGINE_RUN/owner"
}

# TERM, a wait, then KILL.
end_process() { # PID SECONDS
    as_root kill -TERM "$1" 2>/dev/null || return 0
    await_exit "$1" "$(($2 * 10))" || as_root kill -KILL "$1" 2>/dev/null || true
}
