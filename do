#!/bin/sh
# The commands of this repository; each may be run again at any time.
#
#   ./do setup   have what building and running takes: gcc, Postgres and Redis, from apt and nothing else
#   ./do demo    build graphmill and turn the example documents into a graph
#   ./do test    what CI runs: format, lints and all tests, on private servers
#   ./do sqlx    after a change of a query or the schema: describe the queries anew, in .sqlx
#
# Root installs system packages, and no service is started. Anybody else gets the servers unpacked below
# .graphmill/servers. What can't be had is one line with the remedy, and exit 3.
set -eu
cd "$(dirname "$0")"
PATH=$PATH:${CARGO_HOME:-${HOME:-}/.cargo}/bin
unpacked=$PWD/.graphmill/servers

say() { printf '%s\n' "$*" >&2; }
remedy() { say "$*"; exit 3; }
have() { command -v "$1" >/dev/null 2>&1; }

newest_postgres() { # the folder of the newest server below the root folder $1
    for bin in "$1"/usr/lib/postgresql/*/bin; do
        if [ -x "$bin/initdb" ] && [ -x "$bin/postgres" ]; then printf '%s\n' "$bin"; fi
    done | sort -V | tail -n 1
}
have_postgres() {
    [ -n "${DATABASE_URL:-}${GRAPHMILL_PG_BIN:-}$(newest_postgres '')" ] || { have postgres && have initdb; }
}
have_redis() { [ -n "${REDIS_URL:-}${GRAPHMILL_REDIS_SERVER:-}" ] || have redis-server || have valkey-server; }
have_compiler() { have cc && { [ "$(uname)" != Linux ] || [ -e "$(cc -print-file-name=crt1.o)" ]; }; }
have_certificates() {
    [ -n "${SSL_CERT_FILE:-}${CARGO_HTTP_CAINFO:-}" ] || [ -e /etc/ssl/certs/ca-certificates.crt ] ||
        [ -e /etc/ssl/cert.pem ] || [ -e /etc/pki/tls/certs ]
}

install_packages() { # as root: no package may start its service, and Postgres' none make a cluster
    say "installing $* (apt-get)"
    (
        if [ ! -e /usr/sbin/policy-rc.d ]; then
            trap 'rm -f /usr/sbin/policy-rc.d' EXIT
            trap 'exit 130' INT TERM HUP
            printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
            chmod 755 /usr/sbin/policy-rc.d
        fi
        if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
            mkdir -p /etc/postgresql-common
            echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
        fi
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq update && apt-get -qq install -y --no-install-recommends \
            -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@" </dev/null
    ) >&2 || remedy "apt-get could not install them: see above, then run: apt-get install -y $*"
}

unpack_packages() { # as anybody: an apt state of our own, and nothing changes but $unpacked
    say "unpacking $* below .graphmill/servers (apt-get download)"
    new=$unpacked.new
    rm -rf "$new"
    mkdir -p "$new/lists/partial" "$new/cache/archives/partial" "$new/debs" "$new/root"
    cat >"$new/apt.conf" <<EOF
Dir::State "$new"; Dir::State::status "/var/lib/dpkg/status"; Dir::Cache "$new/cache";
APT::Sandbox::User ""; Debug::NoLocking "1"; quiet "2";
EOF
    (
        export APT_CONFIG="$new/apt.conf"
        # New packages only; without the JIT compiler and Perl, which our servers never use.
        apt-get update && apt-get install -s --no-install-recommends "$@" >"$new/plan" &&
            awk '$1 == "Inst" && $3 !~ /^\[/ && $2 !~ /^lib(llvm|z3)|perl/ { print $2 }' "$new/plan" >"$new/names" &&
            cd "$new/debs" && xargs apt-get download <"$new/names" || exit 1
        for deb in *.deb; do dpkg-deb -x "$deb" "$new/root" || exit 1; done
    ) >&2 || remedy "can't fetch $*: have them installed (apt-get install -y $*), or set DATABASE_URL and REDIS_URL"
    rm -rf "$unpacked" "$new/debs" "$new/cache" "$new/lists"
    mv "$new" "$unpacked"
}

use_unpacked() { # 0 if all of "$@" are unpacked; hands them to graphmill, with the library path of the servers alone
    root=$unpacked/root
    for package in "$@"; do
        case $package in
            postgresql)
                GRAPHMILL_PG_BIN=$(newest_postgres "$root")
                [ -n "$GRAPHMILL_PG_BIN" ] || { unset GRAPHMILL_PG_BIN; return 1; }
                export GRAPHMILL_PG_BIN ;;
            redis-server)
                [ -x "$root/usr/bin/redis-server" ] || return 1
                export GRAPHMILL_REDIS_SERVER="$root/usr/bin/redis-server" ;;
        esac
    done
    for lib in "$root"/usr/lib/*-linux-gnu* "$root"/lib/*-linux-gnu*; do
        if [ -d "$lib" ]; then GRAPHMILL_LIBRARY_PATH=${GRAPHMILL_LIBRARY_PATH:+$GRAPHMILL_LIBRARY_PATH:}$lib; fi
    done
    export GRAPHMILL_LIBRARY_PATH="${GRAPHMILL_LIBRARY_PATH:-}"
}

have_python_redis() { /usr/bin/python3 -c 'import redis' 2>/dev/null; }
have_react() { [ -e /usr/share/nodejs/react/umd/react.production.min.js ] && [ -e /usr/share/nodejs/react-dom ]; }

setup() { # for `test`, with what the clients and their browser tests need
    servers='' tools=''
    if [ "${1:-}" = test ]; then
        have node || tools='nodejs'
        have tsc || tools="$tools node-typescript"
        have_react || tools="$tools node-react node-react-dom"
        [ -n "${CHROMIUM:-}" ] || have chromium || tools="$tools chromium"
        have_python_redis || tools="$tools python3 python3-redis"
        have curl || tools="$tools curl"
    fi
    have_postgres || servers=postgresql
    have_redis || servers="$servers redis-server"
    have_compiler || tools="$tools gcc libc6-dev"
    have_certificates || tools="$tools ca-certificates"
    # shellcheck disable=SC2086 # lists of package names
    if [ -z "$servers$tools" ]; then :
    elif ! have apt-get; then
        remedy "missing here:$servers $tools, and no apt-get: install them; or for the servers, docker compose up -d postgres redis" \
            "and set DATABASE_URL and REDIS_URL"
    elif [ "$(id -u)" = 0 ]; then
        install_packages $servers $tools
    else
        if [ -n "$servers" ] && ! use_unpacked $servers; then
            unpack_packages $servers
            use_unpacked $servers || remedy "the unpacked servers are not complete: have them installed: $servers"
        fi
        [ -z "$tools" ] || remedy "missing here and not to be had without root: run as root: apt-get install -y $tools"
    fi
    have cargo || remedy 'no cargo found: install Rust (https://rustup.rs), then run this again'
}

demo() {
    setup
    cargo build --release --locked
    mkdir -p .graphmill
    exec ./target/release/graphmill run examples/documents --export json:.graphmill/demo.json
}

write_sqlx() { # describes every query against a migrated private Postgres, into the folder $1
    # Changed queries don't build before they are described: then the binary of before runs the servers.
    mill=target/debug/graphmill
    cargo build --locked || [ -x $mill ] || { mill=target/release/graphmill && [ -x $mill ]; }
    rm -rf "$1" target/sqlx-servers && mkdir -p "$1"
    touch src/lib.rs
    GRAPHMILL_DATA_DIR=target/sqlx-servers SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$1 \
        ./$mill servers --migrations migrations -- cargo check --workspace --all-targets --locked
    rm -rf target/sqlx-servers
    touch src/lib.rs
}

check_sqlx() { # a changed schema passes an offline build silently: compare the descriptions
    write_sqlx "$PWD/target/sqlx"
    diff -r .sqlx target/sqlx || { say 'the queries have changed: ./do sqlx, and commit .sqlx'; exit 1; }
}

check() { # runs cargo $1 with the rest; CI must have the component
    if cargo "$1" --version >/dev/null 2>&1; then cargo "$@"
    elif [ "${CI:-}" = true ]; then remedy "cargo $1 is missing: rustup component add rustfmt clippy"
    else say "skipped cargo $1: rustup component add rustfmt clippy"; fi
}

run_tests() {
    unset DATABASE_URL REDIS_URL # the tests run on servers of their own
    setup test
    check fmt --all --check
    # With the trainer and the client, which are behind features; without them, one build of the library shows what it
    # alone used.
    check clippy --workspace --all-targets --locked --features train,graphmill-jobs/enqueue -- -D warnings
    check clippy --lib --locked -- -D warnings
    if [ "${CI:-}" = true ]; then check_sqlx; fi
    cargo test --workspace --locked --features train,graphmill-jobs/enqueue
}

case ${1:-} in
    setup) setup ;;
    demo) demo ;;
    test) run_tests ;;
    sqlx) write_sqlx "$PWD/.sqlx" ;;
    *) say 'usage: ./do setup | demo | test | sqlx'; exit 2 ;;
esac
