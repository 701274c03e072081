# shellcheck shell=bash
# Debian packages: which are missing, and how they are installed without a person at the keyboard.
# Sourced after say.sh. Nothing here starts a service: packages that would are told not to.

# A package manager that runs elsewhere (unattended-upgrades on a fresh machine) holds its lock for minutes.
APT_LOCK_WAIT_SECONDS=300
APT_TRIES=3

# Names those of the given commands that this machine has not got; root's directories count.
missing_commands() {
    local command
    for command in "$@"; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null || printf '%s\n' "$command"
    done
}

# Installs the packages that bring the given commands: arguments are COMMAND=PACKAGE.
need_commands() {
    local pair packages=()
    for pair in "$@"; do
        [ -z "$(missing_commands "${pair%%=*}")" ] || packages+=("${pair#*=}")
    done
    [ ${#packages[@]} -eq 0 ] || install_packages "${packages[@]}"
}

# What a build needs besides a Rust toolchain: SQLite, libgit2 and ring come as C source.
need_build_tools() {
    need_commands cc=gcc git=git
    [ -e /usr/include/stdlib.h ] || install_packages libc6-dev
    PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
    command -v cargo >/dev/null ||
        die "no Rust toolchain: cargo is not on the PATH" "install Rust 1.95 or newer from https://rustup.rs"
}

install_packages() {
    command -v apt-get >/dev/null ||
        die "can't install $*: this machine has no apt-get" "install them by hand and run this again"
    say "installing $* (apt)"
    local log try
    log=$(mktemp)
    for try in $(seq "$APT_TRIES"); do
        if apt_install "$@" >"$log" 2>&1; then
            rm -f "$log"
            return 0
        fi
        note "apt failed (attempt $try of $APT_TRIES): $(grep -m1 '^E:' "$log" || tail -n1 "$log")"
        sleep "$((try * 3))"
    done
    tail -n 15 "$log" >&2
    rm -f "$log"
    die "apt could not install $*"
}

# One attempt. Only dpkg's lock is waited for by apt itself; the list's lock ends in a failure, so callers retry.
apt_install() {
    local apt=(apt-get -q -y -o "DPkg::Lock::Timeout=$APT_LOCK_WAIT_SECONDS" -o Dpkg::Use-Pty=0)
    apt+=(-o Dpkg::Options::=--force-confold)
    local quiet=(env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l)
    as_root "${quiet[@]}" dpkg --configure -a || return 1
    as_root "${quiet[@]}" "${apt[@]}" update || return 1
    without_service_start as_root "${quiet[@]}" "${apt[@]}" install --no-install-recommends "$@" </dev/null
}

# A package's own start of its service would fail where no init runs, and would race with ours where one does.
# policy-rc.d is how Debian lets an administrator say so; a policy that is there already is left as it is.
without_service_start() {
    local policy=/usr/sbin/policy-rc.d status
    if [ -e "$policy" ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\n# kgit: services are started by hand\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    "$@"
    status=$?
    as_root rm -f "$policy"
    return "$status"
}
