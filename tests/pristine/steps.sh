#!/bin/sh
# What tests/pristine/run does inside: what a user types, then again, and away.
set -eux

./install.sh
[ "$(pycontainer run --rm busybox sh -c 'echo hello; echo $$')" = "$(printf 'hello\n1')" ]
script -qec 'pycontainer run --rm -it busybox tty' /dev/null </dev/null | grep /dev/pts/
completions="/usr/local/share/bash-completion/completions/pycontainer /etc/fish/completions/pycontainer.fish
    /usr/local/share/zsh/site-functions/_pycontainer"
for path in $completions; do
    [ -s "$path" ]
done
./install.sh
[ "$UNIT" = no ] || ./test.sh unit

if ./install.sh --uninstall </dev/null; then
    echo 'steps.sh: uninstalled without being asked' >&2
    exit 1
fi
./install.sh --uninstall --yes >/tmp/said
cat /tmp/said
grep 'apt-get remove .*busybox-static' /tmp/said
for path in /opt/pycontainer /var/lib/pycontainer /run/pycontainer /usr/local/bin/pycontainer \
    /usr/local/bin/pycontainer-runtime $completions "/sys/class/net/$BRIDGE"; do
    [ ! -e "$path" ]
done
# And once more, when there is nothing.
./install.sh --uninstall | grep 'not installed'
