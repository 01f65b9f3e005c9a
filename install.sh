#!/usr/bin/env bash
# Install pycontainer on Debian or Ubuntu, or take it away again; see usage().
set -euo pipefail
# Whatever the caller's is, because users who are not root run what is installed.
umask 022

CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PREFIX=/opt/pycontainer
LINKS=/usr/local/bin
UNIT=/usr/local/lib/systemd/system/pycontainer.service
ROOT=/var/lib/pycontainer
STATE=/run/pycontainer
BRIDGE=pyc0
COMMANDS=(pycontainer:pycontainer.cli.main pycontainer-runtime:pycontainer.runtime.main)
# Shell and where it looks for what an administrator has installed.
COMPLETIONS=(
    bash:/usr/local/share/bash-completion/completions/pycontainer
    fish:/etc/fish/completions/pycontainer.fish
    zsh:/usr/local/share/zsh/site-functions/_pycontainer
)
# python-prctl is compiled and needs a compiler and libcap's headers; the built-in image is made of busybox-static; tini
# is what --init runs.
PACKAGES=(python3 python3-venv python3-dev gcc libc6-dev libcap-dev nftables iproute2 kmod busybox-static tini)
# Which of them were not there before, so that --uninstall can say what it need not leave.
BROUGHT=()
# Not a python3 from PATH, because that may be a user's own, which can go away.
PYTHON=/usr/bin/python3

usage() {
    cat <<END
usage: install.sh [--no-packages]     install pycontainer, or upgrade what is installed; images are kept
       install.sh --uninstall [--yes] take everything away, images and containers too; --yes does not ask
       install.sh --packages-only [PACKAGE...]
                                      only install the Debian packages it needs, and those named

With --no-packages nothing is installed with apt-get: for distributions that have none.
END
}

die() {
    printf 'install.sh: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

say() {
    printf '==> %s\n' "$*"
}

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install_packages() {
    command -v apt-get >/dev/null ||
        die "this is not Debian or Ubuntu: apt-get is missing" \
            "install what these packages hold by hand: ${PACKAGES[*]}; then run ./install.sh --no-packages"
    local missing=() package
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing Debian packages: ${missing[*]}"
    # The package lists may be missing or old: bring them up to date only when that is so. First it is only tried, because
    # of a package that no list has apt-get says that it "has been obsoleted".
    if ! apt_install --simulate "${missing[@]}" >/dev/null 2>&1 || ! apt_install "${missing[@]}" 2>/dev/null; then
        apt-get update </dev/null
        apt_install "${missing[@]}"
    fi
    BROUGHT+=("${missing[@]}")
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" </dev/null
}

# The packages that this or an earlier run brought are noted in the environment, which goes when pycontainer does.
read_brought() {
    local earlier=()
    [ ! -e "$PREFIX/debian-packages" ] || mapfile -t earlier <"$PREFIX/debian-packages"
    BROUGHT+=("${earlier[@]}")
}

write_brought() {
    [ ${#BROUGHT[@]} = 0 ] || printf '%s\n' "${BROUGHT[@]}" | sort -u >"$PREFIX/debian-packages"
}

check_python() {
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$("$PYTHON" --version) is too old, 3.11 is needed" "Debian 12 and 13 and Ubuntu 24.04 have it"
}

make_environment() {
    # An environment of another Python version, or a broken one, is made anew.
    local version
    version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if ! "$PREFIX/bin/python3" -c "import pip, sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2>/dev/null; then
        say "making a virtual environment in $PREFIX"
        "$PYTHON" -m venv --clear "$PREFIX"
    fi
    SITE=$PREFIX/lib/python$version/site-packages
}

install_package() {
    say "installing pycontainer and its Python packages"
    # From a copy, because building in the checkout would leave files there and pick up old ones.
    local copy
    copy=$(mktemp -d)
    # shellcheck disable=SC2064  # the name is known now
    trap "rm -rf '$copy'" EXIT
    cp -r "$CHECKOUT"/{pyproject.toml,README.md,LICENSE,pycontainer} "$copy"
    "$PREFIX/bin/python3" -m pip install -qq --upgrade --use-pep517 "$copy" </dev/null
    # Here, because PYTHONDONTWRITEBYTECODE may be set, and without the .pyc files every start would compile.
    env -u PYTHONDONTWRITEBYTECODE "$PREFIX/bin/python3" -m compileall -q "$SITE"
    rm -rf "$copy"
    trap - EXIT
}

write_commands() {
    # -I and -S leave out the environment's and site's start-up work, which takes milliseconds.
    local command name module
    for command in "${COMMANDS[@]}"; do
        name=${command%%:*} module=${command#*:}
        rm -f "$PREFIX/bin/$name"
        cat >"$PREFIX/bin/$name" <<END
#!$PREFIX/bin/python3 -IS
import sys

sys.path.append("$SITE")

from $module import main

sys.exit(main())
END
        chmod 755 "$PREFIX/bin/$name"
        mkdir -p "$LINKS"
        ln -sfn "$PREFIX/bin/$name" "$LINKS/$name"
    done
}

write_completions() {
    local completion path
    for completion in "${COMPLETIONS[@]}"; do
        path=${completion#*:}
        mkdir -p "${path%/*}"
        "$PREFIX/bin/pycontainer" completion "${completion%%:*}" >"$path"
    done
}

# Starts containers again after a reboot; where systemd is not there, nothing does.
write_unit() {
    command -v systemctl >/dev/null || return 0
    mkdir -p "${UNIT%/*}"
    # After nftables.service, because its rule set begins by removing all others'. What is started leaves the unit's
    # cgroup, and is not looked after by systemd: its monitor does that.
    cat >"$UNIT" <<END
[Unit]
Description=pycontainer: start containers by their restart policies
After=local-fs.target network.target nftables.service firewalld.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$PREFIX/bin/pycontainer system boot
KillMode=process

[Install]
WantedBy=multi-user.target
END
    systemctl enable --quiet "${UNIT##*/}"
    [ ! -d /run/systemd/system ] || systemctl daemon-reload
}

remove_unit() {
    [ -e "$UNIT" ] || return 0
    ! command -v systemctl >/dev/null || systemctl disable --quiet "${UNIT##*/}"
    rm "$UNIT"
    [ ! -d /run/systemd/system ] || systemctl daemon-reload
}

load_image() {
    local archive id
    archive=$(mktemp)
    # shellcheck disable=SC2064
    trap "rm -f '$archive'" EXIT
    id=$("$PREFIX/bin/python3" "$CHECKOUT/images/busybox/build.py" "$archive")
    if ! "$PREFIX/bin/pycontainer" image inspect busybox 2>/dev/null | grep -q "$id"; then
        say "loading the built-in image busybox"
        "$PREFIX/bin/pycontainer" load -i "$archive"
    fi
    rm -f "$archive"
    trap - EXIT
}

do_install() {
    check_python
    read_brought
    make_environment
    write_brought
    install_package
    write_commands
    write_completions
    load_image
    write_unit
    say "$("$PREFIX/bin/pycontainer" --version) is installed; try: ${SUDO_USER:+sudo }pycontainer run -it busybox sh"
}

# Directories named pycontainer in the cgroup v2 hierarchy.
cgroups() {
    local mountpoint
    mountpoint=$(awk '/ - cgroup2 / { print $5; exit }' /proc/self/mountinfo)
    [ -z "$mountpoint" ] || [ ! -d "$mountpoint/pycontainer" ] || echo "$mountpoint/pycontainer"
}

refuse_running() {
    local group processes
    for group in $(cgroups); do
        processes=$(find "$group" -name cgroup.procs -exec cat {} + | tr '\n' ' ')
        [ -z "$processes" ] || die "containers are running, with the processes $processes" "stop them first"
    done
    # Those that others have started by the runtime may be in any cgroup.
    local runtime=$PREFIX/bin/pycontainer-runtime running
    [ -x "$runtime" ] && [ -d "$STATE/runtime" ] || return 0
    running=$("$runtime" --root "$STATE/runtime" list | awk 'NR > 1 && $3 != "stopped" { print $1 }' | tr '\n' ' ')
    [ -z "$running" ] || die "containers of pycontainer-runtime are running: $running" \
        "end them first: pycontainer-runtime delete --force ID"
}

# Whether anything is there that --uninstall takes away.
is_present() {
    local path
    for path in "$PREFIX" "$ROOT" "$STATE" "$UNIT" "${COMPLETIONS[@]#*:}"; do
        [ ! -e "$path" ] || return 0
    done
    return 1
}

confirm() {
    local path
    echo "This deletes:"
    for path in "$PREFIX" "$ROOT" "$STATE"; do
        [ ! -e "$path" ] || printf '  %-24s %s\n' "$path" "$(du -shx "$path" 2>/dev/null | cut -f1)"
    done
    [ ! -e "$ROOT" ] || echo "$ROOT holds all images, containers, volumes and logs."
    [ "$YES" = no ] || return 0
    [ -t 0 ] || die "not asked, because stdin is not a terminal; nothing was deleted" "add --yes"
    local answer
    read -r -p "Go on? [y/N] " answer
    [[ $answer == [yY]* ]] || die "nothing was deleted"
}

end_processes() {
    # What is resident between two commands; its argv[0] is the environment's interpreter.
    local directory program
    for directory in /proc/[0-9]*; do
        IFS= read -r -d '' program <"$directory/cmdline" 2>/dev/null || continue
        [[ $program != "$PREFIX"/* ]] || kill "${directory#/proc/}" 2>/dev/null || true
    done
}

# The bridge that is always there, and those of networks that users have made.
bridges() {
    echo "$BRIDGE"
    [ ! -e "$ROOT/db.sqlite" ] || python3 -IS - "$ROOT/db.sqlite" 2>/dev/null <<'END' || true
import sqlite3, sys
for (name,) in sqlite3.connect(sys.argv[1]).execute("SELECT interface FROM networks"):
    print(name)
END
}

do_uninstall() {
    is_present || {
        say "pycontainer is not installed: there is nothing to take away"
        return
    }
    refuse_running
    confirm
    read_brought
    end_processes
    local name place group
    # Deepest first, and before anything is deleted, because rm must not follow a mount into a user's directory.
    while IFS= read -r place; do
        umount "$place"
    done < <(awk '{ print $5 }' /proc/self/mountinfo | grep -E "^($ROOT|$STATE)(/|\$)" | sort -r)
    if command -v nft >/dev/null && nft list table ip pycontainer >/dev/null 2>&1; then
        nft delete table ip pycontainer
    fi
    if command -v nft >/dev/null && nft list table ip6 pycontainer >/dev/null 2>&1; then
        nft delete table ip6 pycontainer
    fi
    for name in $(bridges); do
        ! ip link show "$name" >/dev/null 2>&1 || ip link delete "$name"
    done
    if [ -e "$STATE/ip_forward" ]; then
        echo "net.ipv4.ip_forward was off before pycontainer, and is so again"
        echo 0 >/proc/sys/net/ipv4/ip_forward
    fi
    if [ -e "$STATE/ip_forward6" ]; then
        echo "net.ipv6.conf.all.forwarding was off before pycontainer, and is so again"
        echo 0 >/proc/sys/net/ipv6/conf/all/forwarding
    fi
    for group in $(cgroups); do
        find "$group" -depth -type d -exec rmdir {} \;
    done
    for name in "${COMMANDS[@]%%:*}"; do
        [ "$(readlink "$LINKS/$name" || true)" != "$PREFIX/bin/$name" ] || rm "$LINKS/$name"
    done
    rm -f "${COMPLETIONS[@]#*:}"
    remove_unit
    rm -rf --one-file-system "$PREFIX" "$ROOT" "$STATE"
    say "pycontainer is gone"
    say_packages
}

# How to be rid of what apt-get installed for us and is still there.
say_packages() {
    local package left=()
    for package in "${BROUGHT[@]}"; do
        ! is_installed "$package" || left+=("$package")
    done
    [ ${#left[@]} = 0 ] || say "the Debian packages that it brought stay; to remove them: apt-get remove ${left[*]}"
}

main() {
    local action=install arguments="$*"
    YES=no WITH_PACKAGES=yes
    case "${1-}" in
    --no-packages)
        WITH_PACKAGES=no
        shift
        ;;
    --packages-only)
        action=packages
        shift
        ;;
    --uninstall)
        action=uninstall
        shift
        if [ "${1-}" = --yes ]; then
            YES=yes
            shift
        fi
        ;;
    -h | --help)
        usage
        return
        ;;
    esac
    if [ "$action" != packages ] && [ $# -gt 0 ]; then
        usage >&2
        exit 2
    fi
    [ "$(id -u)" = 0 ] || die "must be run as root" "sudo ./install.sh $arguments; or, where there is no sudo: su -c './install.sh $arguments'"
    case $action in
    install)
        [ $WITH_PACKAGES = no ] || install_packages "${PACKAGES[@]}"
        do_install
        ;;
    uninstall) do_uninstall ;;
    packages) install_packages "${PACKAGES[@]}" "$@" ;;
    esac
}

# Not where a test only wants the functions.
[ "${BASH_SOURCE[0]}" != "$0" ] || main "$@"
