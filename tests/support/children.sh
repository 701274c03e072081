# shellcheck shell=bash
# Long-running children of a script: signals reach them once, and the script outlives them to clean up.
# Sourced after say.sh.

# The exit code that a signal asked for, if one came; the script looks at it after every child.
export INTERRUPTED=

# Runs a command in the foreground, in a process group of its own: Ctrl-C at the terminal comes to this script, which
# hands it on. Otherwise a child would hear it twice, and what this script started beside it would hear it too.
run_child() {
    local pid status
    set -m
    "$@" &
    pid=$!
    set +m
    # shellcheck disable=SC2064 # the pid is meant to be fixed here
    trap "INTERRUPTED=130; kill -INT $pid 2>/dev/null || true" INT
    # shellcheck disable=SC2064
    trap "INTERRUPTED=143; kill -TERM $pid 2>/dev/null || true" TERM HUP
    # A signal ends `wait`, not the child: wait again until it has gone.
    while :; do
        wait "$pid" && status=0 || status=$?
        process_lives "$pid" || break
    done
    leave_on_signals
    return "$status"
}

# While no child runs there is nobody to hand a signal to: leaving is enough, and the EXIT trap cleans up.
leave_on_signals() {
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}
