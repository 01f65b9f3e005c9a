#!/usr/bin/env bash
# Run the tests; see usage(). Installs what they need. Needs no terminal.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
VENV=.venv
PYTHON=/usr/bin/python3
TIERS=() FAILED=() AGAIN=
# Of tests/root: sessions of their own, beside unit and the others, so that all end at about the same time.
SLOW=(faults push kills registry image_load image_hostile stress network_attach network_services hostile join explain_commands)
# After uml. What switches IPv6 forwarding is in one session, because that is the whole machine's.
LATER=(explain networks network_storm network_kills reachability relay lab lecture)

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
        "$PYTHON" -m venv --clear $VENV
        $VENV/bin/python3 -m pip install -qq --use-pep517 --config-settings editable_mode=compat -e '.[test]' </dev/null
        echo "$stamp" >$VENV/stamp
    fi
    # Because the guest of the uml tier cannot write them, and parsing is slow in it.
    env -u PYTHONDONTWRITEBYTECODE $VENV/bin/python3 -m compileall -q pycontainer tests "$VENV"/lib/python3*/site-packages
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

# shown TIER ARGUMENT... and kept TIER ARGUMENT...: a session, for conclude; its output now, or then.
shown() {
    session "$@" && echo 0 >"$RESULTS/$1.status" || echo $? >"$RESULTS/$1.status"
}

kept() {
    shown "$@" >"$RESULTS/$1.txt" 2>&1
}

# conclude TIER ARGUMENT...: what has become of it. As in CPython's own test suite, what fails runs once more by itself
# when the rest is done, if it is a few tests: on a busy machine one of some thousands may meet a moment that is not its
# subject. The summary names each that passed only then: it is to be mended.
conclude() {
    local tier=$1 status failed
    TIERS+=("$tier")
    status=$(<"$RESULTS/$tier.status")
    [ ! -e "$RESULTS/$tier.txt" ] || cat "$RESULTS/$tier.txt"
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

run_root() {
    if [ $# -gt 0 ]; then
        run_one root "$@"
        return
    fi
    local slow=("${SLOW[@]/#/tests/root/test_}")
    slow=("${slow[@]/%/.py}")
    say "root, and at the same time: ${SLOW[*]}"
    kept root-slow "${slow[@]}" &
    shown root tests/root "${slow[@]/#/--ignore=}"
    wait $!
    conclude root tests/root "${slow[@]/#/--ignore=}"
    conclude root-slow "${slow[@]}"
}

# Every tier, three sessions at a time: on two processors, because each waits now and then.
run_all() {
    local slow=("${SLOW[@]/#/tests/root/test_}") later=("${LATER[@]/#/tests/root/test_}") guest=no beside=()
    slow=("${slow[@]/%/.py}")
    later=("${later[@]/%/.py}")
    ! has_guest || guest=yes
    say "unit and root; at the same time ${SLOW[*]}; and uml, ${LATER[*]}"
    {
        [ $guest = no ] || kept uml tests/uml
        kept root-later "${later[@]}"
    } &
    beside=($!)
    kept root-slow "${slow[@]}" &
    beside+=($!)
    shown unit
    shown root tests/root "${slow[@]/#/--ignore=}" "${later[@]/#/--ignore=}"
    wait "${beside[@]}"
    conclude unit
    [ $guest = no ] || conclude uml tests/uml
    conclude root tests/root "${slow[@]/#/--ignore=}" "${later[@]/#/--ignore=}"
    conclude root-slow "${slow[@]}"
    conclude root-later "${later[@]}"
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
    [ ${#tiers[@]} = 1 ] || tiers=(lint all)
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
