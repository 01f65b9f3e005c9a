#!/usr/bin/env bash
# Run the tests; see usage(). Installs what they need. Needs no terminal.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
VENV=.venv
PYTHON=/usr/bin/python3
TIERS=() FAILED=() AGAIN=
# The longest first; see part_of.
ROOT=(root-network root-faults root-image root-hostile root-explain root-runtime root)
AT_ONCE=4 # On two processors, because each waits now and then.

usage() {
    cat <<'END'
usage: test.sh                     run lint, unit, root and uml
       test.sh lint|unit|root|uml [PYTEST ARGUMENT...]
       test.sh pristine [RELEASE]  install in a new Debian and run a container there; bookworm, or trixie and so on
       test.sh vagrant             check the Vagrantfile; installs vagrant, which brings some 70 packages
END
}

say() {
    printf '\n==> %s\n' "$*"
}

is_unified() {
    grep -q memory /sys/fs/cgroup/cgroup.controllers 2>/dev/null
}

# packages TIER...: the Debian packages that these tiers need, besides those of pycontainer itself.
packages() {
    local tier
    echo procps
    for tier in "$@"; do
        case $tier in
        lint) echo shellcheck ;;
        vagrant) echo vagrant ;;
        root) printf '%s\n' strace tmux iputils-ping util-linux zsh fish redis-tools skopeo umoci runc podman buildah docker-registry apache2-utils openssl e2fsprogs nginx bind9-dnsutils ;;
        uml) is_unified || printf '%s\n' user-mode-linux e2fsprogs util-linux ;;
        pristine) printf '%s\n' mmdebstrap git ;;
        esac
    done
}

# prepare TIER...: install what they need.
prepare() {
    if [ "$(id -u)" = 0 ]; then
        local wanted
        mapfile -t wanted < <(packages "$@")
        ./install.sh --packages-only "${wanted[@]}"
    fi
    local stamp
    stamp=$(sha256sum pyproject.toml; "$PYTHON" --version)
    if [ "$(cat $VENV/stamp 2>/dev/null)" != "$stamp" ]; then
        say "making the tests' environment in $VENV"
        # Without a pip of its own and its compiled files, which would take a third of the time: Debian's python3-venv
        # brings a wheel of it.
        "$PYTHON" -m venv --clear --without-pip $VENV
        PYTHONPATH=$(printf "%s:" /usr/share/python-wheels/pip-*.whl) $VENV/bin/python3 -m pip install -qq --no-compile \
            --use-pep517 --config-settings editable_mode=compat -e '.[test]' </dev/null
        echo "$stamp" >$VENV/stamp
    fi
    # Because the guest of the uml tier cannot write them, and parsing is slow in it.
    env -u PYTHONDONTWRITEBYTECODE $VENV/bin/python3 -m compileall -q -j 0 pycontainer tests "$VENV"/lib/python3*/site-packages
}

# check NAME COMMAND...: run it and remember when it fails.
check() {
    local name=$1
    shift
    if "$@" </dev/null; then
        echo "ok: $name"
    else
        echo "FAILED: $name"
        FAILED+=("$name")
    fi
}

# Every file whose first line names a shell.
shell_scripts() {
    find ./* .ci -type f -exec awk 'FNR == 1 && /^#!.*sh$/ { print FILENAME } { nextfile }' {} +
}

run_lint() {
    say lint
    check "ruff format" $VENV/bin/ruff format --check .
    check "ruff check" $VENV/bin/ruff check --quiet .
    check mypy $VENV/bin/mypy
    check "mypy, tools" $VENV/bin/mypy images/busybox/build.py tests/uml/boot.py tests/summary.py
    local scripts
    mapfile -t scripts < <(shell_scripts)
    check shellcheck shellcheck "${scripts[@]}"
}

run_vagrant() {
    say vagrant
    check "vagrant validate" env VAGRANT_HOME="$RESULTS/vagrant" VAGRANT_DOTFILE_PATH="$RESULTS/dot" vagrant validate --ignore-provider
}

# session TIER ARGUMENT...: pytest with directories of its own; the uml tier in the guest, whose /mnt is $RESULTS.
session() {
    local tier=$1 place=$RESULTS launcher=() options=()
    shift
    if [ "$tier" = uml ] && ! is_unified; then
        launcher=("$PYTHON" tests/uml/boot.py --share "$RESULTS")
        place=/mnt
    else
        # Because pytest keeps what it makes of the tests' assertions, unless no compiled file may be written.
        launcher=(env -u PYTHONDONTWRITEBYTECODE)
        options=("--basetemp=$RESULTS/$tier$AGAIN")
    fi
    # Tests that are named stand for the whole tier.
    [[ " $*" == *" tests/"* ]] || set -- "tests/$tier" "$@"
    "${launcher[@]}" $VENV/bin/python3 -m pytest "--junitxml=$place/$tier$AGAIN.xml" -o "cache_dir=$place/cache-$tier" \
        "${options[@]}" "$@" </dev/null
}

# part_of FILE: the session that a file of tests/root is run in.
part_of() {
    case ${1#tests/root/test_} in
    # Forwarding and IPv6 are the whole machine's.
    network* | bridge_seen* | coexistence* | ports* | reachability* | relay*) echo root-network ;;
    faults* | kills* | stress* | spare* | migrations*) echo root-faults ;;
    image* | registry* | push* | signatures* | save_archives* | docker_hub* | store_care*) echo root-image ;;
    hostile* | join* | isolation* | userns*) echo root-hostile ;;
    explain* | lab* | lecture* | exercises* | glossary* | completion*) echo root-explain ;;
    runtime* | callers*) echo root-runtime ;;
    *) echo root ;;
    esac
}

# tests_of SESSION: the files or the directory that it runs.
tests_of() {
    [[ $1 == root* ]] || { echo "tests/$1" && return; }
    local file
    for file in tests/root/test_*.py; do
        [ "$(part_of "$file")" != "$1" ] || echo "$file"
    done
}

# shown SESSION ARGUMENT... and kept SESSION ARGUMENT...: run it, for conclude; its output now, or then.
shown() {
    session "$@" && echo 0 >"$RESULTS/$1.status" || echo $? >"$RESULTS/$1.status"
}

kept() {
    if [ "$1" = lint ]; then
        (run_lint && [ ${#FAILED[@]} = 0 ]) && echo 0 >"$RESULTS/lint.status" || echo 1 >"$RESULTS/lint.status"
    else
        shown "$@"
    fi >"$RESULTS/$1.txt" 2>&1
    echo "$1: $(tail -n 1 "$RESULTS/$1.txt")"
}

# conclude SESSION ARGUMENT...: what has become of it. As in CPython's own test suite, what fails runs once more by itself
# when the rest is done, if it is a few tests: on a busy machine one of some thousands may meet a moment that is not its
# subject. The summary names each that passed only then: it is to be mended.
conclude() {
    local tier=$1 status failed
    status=$(<"$RESULTS/$tier.status")
    [ ! -e "$RESULTS/$tier.txt" ] || cat "$RESULTS/$tier.txt"
    [ "$tier" = lint ] || TIERS+=("$tier")
    [ "$status" != 0 ] || return 0
    failed=$(grep -c :: "$RESULTS/cache-$tier/v/cache/lastfailed" 2>/dev/null) || failed=0
    if [ "$failed" -ge 1 ] && [ "$failed" -le 20 ]; then
        say "$tier: once more what failed"
        shift
        ! AGAIN=-again session "$tier" "$@" --last-failed || return 0
    fi
    FAILED+=("$tier (status $status)")
}

has_guest() {
    is_unified || [ "$(uname -m)" = x86_64 ] ||
        ! echo "skipped: uml, because User Mode Linux is for x86-64 only; boot this machine with unified cgroups"
}

run_one() {
    say "$1"
    shown "$@"
    conclude "$@"
}

# run_beside SESSION...: all of them, some at a time.
run_beside() {
    local each tests
    say "$AT_ONCE at a time of $*"
    for each in "$@"; do
        while [ "$(jobs -rp | wc -l)" -ge $AT_ONCE ]; do
            wait -n || true
        done
        mapfile -t tests < <(tests_of "$each")
        kept "$each" "${tests[@]}" &
    done
    wait
    for each in "$@"; do
        mapfile -t tests < <(tests_of "$each")
        conclude "$each" "${tests[@]}"
    done
}

run_root() {
    if [ $# -gt 0 ]; then
        run_one root "$@"
    else
        run_beside "${ROOT[@]}"
    fi
}

run_all() {
    local guest=()
    ! has_guest || guest=(uml)
    run_beside lint "${ROOT[@]:0:1}" "${guest[@]}" "${ROOT[@]:1}" unit
}

# What the tests could leave on this machine.
belongings() {
    find /sys/class/net -mindepth 1 -printf 'link %f\n'
    awk '{ print "mount", $5 }' /proc/self/mountinfo
    find /sys/fs/cgroup -type d -path '*/pycontainer*' -printf 'cgroup %p\n' 2>/dev/null
    nft list tables 2>/dev/null
    ip netns list | sed 's/^/netns /'
    find /run /var/lib /var/tmp /tmp /dev/shm -maxdepth 1 -name '*pycontainer*' ! -path "$RESULTS" -printf 'file %p\n'
    find /run/pycontainer /var/lib/pycontainer -mindepth 1 -maxdepth 1 -printf 'file %p\n' 2>/dev/null
    pgrep -af 'python.*pycontainer|linux\.uml' | grep -v 'test\.sh' | sed 's/^/process /' | cut -c1-150 || true
}

check_leftovers() {
    local left attempt
    # Because the kernel removes links, and processes end, some time after the last test has.
    for attempt in 1 2 3 4 5; do
        left=$(comm -13 <(sort <<<"$BEFORE") <(belongings | sort))
        [ -n "$left" ] || break
        sleep "0.$attempt"
    done
    check "nothing is left behind" test -z "$left"
    echo "$left"
}

main() {
    local tiers=(lint unit root uml)
    case "${1-}" in
    lint | unit | root | uml | pristine | vagrant)
        tiers=("$1")
        shift
        ;;
    "") ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
    [ "$(id -u)" = 0 ] || [[ "${tiers[*]}" =~ ^(lint|unit)$ ]] || {
        echo "test.sh: only lint and unit run without root" >&2
        exit 1
    }
    RESULTS=$(mktemp -d /var/tmp/pycontainer-results-XXXXXX)
    trap 'rm -rf --one-file-system "$RESULTS"' EXIT
    prepare "${tiers[@]}"
    BEFORE=$(belongings)
    [ ${#tiers[@]} = 1 ] || tiers=(all)
    local tier
    for tier in "${tiers[@]}"; do
        case $tier in
        lint) run_lint ;;
        vagrant) run_vagrant ;;
        all) run_all ;;
        unit) run_one unit "$@" ;;
        root) run_root "$@" ;;
        uml) ! has_guest || run_one uml "$@" ;;
        pristine) check pristine tests/pristine/run "$@" ;;
        esac
    done
    say summary
    [ ${#TIERS[@]} = 0 ] || $VENV/bin/python3 tests/summary.py "$RESULTS" "${TIERS[@]}" ||
        FAILED+=("tests, see the summary")
    check_leftovers
    [ ${#FAILED[@]} = 0 ] || {
        printf 'FAILED: %s\n' "${FAILED[@]}"
        exit 1
    }
    echo "all passed"
}

main "$@"
