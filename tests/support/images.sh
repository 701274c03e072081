# shellcheck shell=bash
# The images that tests and the example run: pulled where a registry answers, else built here around Debian's static
# busybox. Sourced after say.sh, packages.sh and engine.sh. Nothing here starts an engine.

# A registry that doesn't answer within this is taken for absent: the local build is as good and takes a second.
PULL_SECONDS=20
# A web server that ends as well-behaved ones do; busybox has none.
IMAGES_SERVER=$(dirname "${BASH_SOURCE[0]}")/server.rs

# What the example runs, and what the tests run beside it: NAME PROGRAM ARGUMENT…
EXAMPLE_IMAGES=(
    "kgit-example/web:1 serve 8080"
    "kgit-example/web:2 serve 8080"
    "kgit-example/store:1 keep 6000"
    "kgit-example/migrate:1 sh"
)
# Built, never pulled: no registry knows them, and those of the example are the team's own to build.
LOCAL_IMAGES=(
    "kgit-test/busybox:1 sh" "kgit-test/web:1 serve 80 8080" "kgit-test/web:2 serve 80 8080"
    "kgit-test/polite:1 polite 8080" "kgit-test/mysql:1 mysqld" "kgit-test/wordpress:1 wordpress"
)
# The tutorials' own names, so that their manifests run as they are.
TUTORIAL_IMAGES=(
    "gcr.io/google-samples/node-hello:1.0 serve 80 8080"
    "nginx:latest serve 80"
    "centos:latest sh"
    "docker.io/jocatalin/kubernetes-bootcamp:v1 serve 8080"
)

images_for_example() { images_built "${EXAMPLE_IMAGES[@]}"; }

images_for_tests() {
    images_built "${EXAMPLE_IMAGES[@]}" "${LOCAL_IMAGES[@]}"
    images_pulled_or_built "${TUTORIAL_IMAGES[@]}"
}

images_built() {
    local entry
    for entry in "$@"; do
        # shellcheck disable=SC2086 # an entry is a name, a program and its arguments
        image_current ${entry%% *} || image_build $entry
    done
}

images_pulled_or_built() {
    local entry registry=unknown
    for entry in "$@"; do
        image_current "${entry%% *}" && continue
        if [ "$registry" != absent ]; then
            say "pulling ${entry%% *}"
            if image_pull "${entry%% *}"; then continue; fi
            note "no registry answers: building stand-ins here"
            registry=absent
        fi
        # shellcheck disable=SC2086
        image_build $entry
    done
}

# A pulled image bears no recipe and is taken as it is; one that was built here must be of today's recipe.
image_current() {
    local have
    have=$(docker_cli image inspect -f '{{index .Config.Labels "recipe"}}' "$1" 2>/dev/null) || return 1
    [ -z "$have" ] || [ "$have" = "$(image_recipe)" ]
}

# What a local build depends on: this file and the busybox that goes into it.
image_recipe() { cat "${BASH_SOURCE[0]}" "$IMAGES_SERVER" /bin/busybox 2>/dev/null | sha256sum | cut -c1-16; }

image_pull() {
    [ -z "${KGIT_NO_PULL:-}" ] || return 1
    local docker=(docker)
    [ -w "$ENGINE_SOCKET" ] || docker=(as_root docker)
    timeout "$PULL_SECONDS" "${docker[@]}" pull -q "$1" >/dev/null 2>&1
}

image_build() { # NAME PROGRAM ARGUMENT…
    local name=$1 root
    shift
    say "building $name (busybox, no registry needed)"
    busybox_install
    root=$(mktemp -d)
    image_root "$root" "$name"
    tar -C "$root" --owner=0 --group=0 --numeric-owner -c . |
        docker_cli import -c "CMD $(json_list "$@")" -c 'ENV PATH=/bin' -c "LABEL recipe=$(image_recipe)" - "$name" >/dev/null ||
        die "the engine did not take the image $name"
    rm -rf "$root"
}

busybox_install() {
    # Debian's other package, busybox, is linked dynamically and would not start in an empty image.
    if ! [ -x /bin/busybox ] || ldd /bin/busybox >/dev/null 2>&1; then
        install_packages busybox-static
    fi
}

# A root file system: busybox under all its names, and the little that programs expect around it.
image_root() { # DIRECTORY NAME
    local root=$1 applet
    mkdir -p "$root"/{bin,etc,tmp,var,root,proc,sys,dev,www,data}
    chmod 1777 "$root/tmp"
    cp /bin/busybox "$root/bin/busybox"
    for applet in $(/bin/busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
    printf 'hello from %s\n' "$2" >"$root/www/index.html"
    printf 'ok\n' >"$root/www/healthz"
    serve_script >"$root/bin/serve"
    keep_script >"$root/bin/keep"
    answer_script >"$root/bin/answer"
    polite_script >"$root/bin/polite"
    mysqld_script >"$root/bin/mysqld"
    query_script >"$root/bin/query"
    wordpress_script >"$root/bin/wordpress"
    page_script >"$root/bin/page"
    chmod 755 "$root"/bin/{serve,keep,answer,polite,mysqld,query,wordpress,page}
    [[ $2 != kgit-test/polite* ]] || server_build "$root/bin/server"
}

server_build() { # FILE
    run_child rustc --edition 2024 -O -C target-feature=+crt-static -C strip=symbols -o "$1" "$IMAGES_SERVER" ||
        die "the test's web server does not build" "the C library's static half is in Debian's libc6-dev"
}

# The server of server.rs. Told to end, it is let finish what it has.
polite_script() {
    cat <<'SCRIPT'
#!/bin/sh
trap 'touch /tmp/stop' TERM INT
server "$@" &
while kill -0 $! 2>/dev/null; do wait $!; done
SCRIPT
}

# A web server on every port given. As process 1, httpd would ignore TERM: the shell around it does not.
serve_script() {
    cat <<'SCRIPT'
#!/bin/sh
trap 'kill $(jobs -p) 2>/dev/null; exit 0' TERM INT
for port; do httpd -f -p "$port" -h "${WWW:-/www}" & done
wait
SCRIPT
}

# The example's store: one line a request, "PASSWORD add TEXT" or "PASSWORD count", over a file under /data.
keep_script() {
    cat <<'SCRIPT'
#!/bin/sh
trap 'kill $(jobs -p) 2>/dev/null; exit 0' TERM INT
mkdir -p /data
nc -ll -p "$1" -e answer &
wait
SCRIPT
}

answer_script() {
    cat <<'SCRIPT'
#!/bin/sh
read -r password verb text
[ "$password" = "$STORE_PASSWORD" ] || { echo "refused"; exit 0; }
case $verb in
add) echo "$text" >>/data/entries && echo "added" ;;
count) cat /data/entries 2>/dev/null | wc -l ;;
*) echo "unknown request" ;;
esac
SCRIPT
}

# What stands in for MySQL: as the real one's image does, it keeps the passwords that it is first started with, beside the
# rows. One line a request: "USER PASSWORD insert TEXT" or "USER PASSWORD select".
mysqld_script() {
    cat <<'SCRIPT'
#!/bin/sh
trap 'kill $(jobs -p) 2>/dev/null; exit 0' TERM INT
[ -n "$MYSQL_ROOT_PASSWORD" ] || { echo "database is uninitialized and MYSQL_ROOT_PASSWORD is not set"; exit 1; }
cd /var/lib/mysql || exit 1
if ! [ -e users ]; then
    echo "root $MYSQL_ROOT_PASSWORD" >users.new
    [ -z "$MYSQL_USER" ] || echo "$MYSQL_USER $MYSQL_PASSWORD" >>users.new
    : >rows
    mv users.new users
fi
echo "ready for connections"
nc -ll -p 3306 -e query &
wait
SCRIPT
}

query_script() {
    cat <<'SCRIPT'
#!/bin/sh
cd /var/lib/mysql || exit 1
read -r user password verb text
grep -qxF "$user $password" users || { echo "Access denied for user $user"; exit 0; }
case $verb in
insert) echo "$text" >>rows && sync && echo "OK" ;;
select) cat rows ;;
*) echo "You have an error in your SQL syntax" ;;
esac
SCRIPT
}

# What stands in for WordPress: installs itself once, which is a row in its database and a file in its own volume, and
# serves the rows.
wordpress_script() {
    cat <<'SCRIPT'
#!/bin/sh
trap 'kill $(jobs -p) 2>/dev/null; exit 0' TERM INT
cd /var/www/html || exit 1
ask() { echo "${WORDPRESS_DB_USER:-root} $WORDPRESS_DB_PASSWORD $*" | nc -w 5 "$WORDPRESS_DB_HOST" 3306; }
until [ -e installed ]; do
    said=$(ask insert "Hello world! by $(hostname)")
    [ "$said" != OK ] || touch installed
    [ -e installed ] || { echo "the database: ${said:-no answer}"; sleep 1; }
done
nc -ll -p 80 -e page &
wait
SCRIPT
}

page_script() {
    cat <<'SCRIPT'
#!/bin/sh
while read -r line && [ "${#line}" -gt 1 ]; do :; done
rows=$(echo "${WORDPRESS_DB_USER:-root} $WORDPRESS_DB_PASSWORD select" | nc -w 5 "$WORDPRESS_DB_HOST" 3306)
status="200 OK"
[ -n "$rows" ] || status="500 Error establishing a database connection"
printf 'HTTP/1.0 %s\r\nContent-Length: %d\r\n\r\n%s\n' "$status" $((${#rows} + 1)) "$rows"
SCRIPT
}

json_list() {
    local item list=
    for item in "$@"; do list="$list${list:+,}\"$item\""; done
    printf '[%s]' "$list"
}
