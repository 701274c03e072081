# shellcheck shell=bash
# How the shell scripts of this repo talk: talk goes to stderr, since stdout is data.
# Sourced, never run. Nothing here has an effect beyond a line of text or an exit.

say() { printf '==> %s\n' "$*" >&2; }
note() { printf '    %s\n' "$*" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$1" >&2
    shift
    local hint
    for hint in "$@"; do printf 'hint: %s\n' "$hint" >&2; done
    exit 2
}

# Runs a command as root: directly when we are root, otherwise through sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this step needs root: $*" "run the script as root, or install sudo"
    fi
}

# The process's name is what tells our engine from a stranger that was given its old pid.
process_is() { # PID NAME
    [ -n "$1" ] && [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ] && process_lives "$1"
}

# A zombie has ended; it only waits for its parent to notice.
process_lives() { # PID
    [ -d "/proc/$1" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null
}

# Waits until a process is gone; the limit is the caller's, in tenths of a second.
await_exit() { # PID TENTHS
    local left=$2
    while process_lives "$1"; do
        [ "$left" -gt 0 ] || return 1
        left=$((left - 1))
        sleep 0.1
    done
}
