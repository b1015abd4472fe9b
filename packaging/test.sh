#!/usr/bin/env bash
# Installs the package on a Debian that is thrown away afterwards, and proves that it runs.
#
#   sudo packaging/test.sh [FILE.deb]       without a file: the one that packaging/build.sh made
#
# SUITE=trixie takes another Debian. Ends with 0 when everything holds, 1 when something does not, and 77
# when this machine cannot run it. The system boots in a container with systemd as its first process and
# without a network, so nothing on this machine is touched; its file system is kept in target/packaging-test
# for the next time.
set -euo pipefail

readonly BINARY_BYTES_MAX=20000000
readonly SECURITY_MAX=2.0
readonly PORT=7070
suite=${SUITE:-bookworm}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

say() { printf '%s\n' "$*"; }
skip() {
    printf 'test: cannot run here: %s\n' "$*" >&2
    exit 77
}
fail() {
    printf 'FAIL  %s\n' "$*" >&2
    [[ -z ${init:-} ]] || inside journalctl --no-pager -n 30 -u holdfast >&2 || true
    exit 1
}
ok() { printf 'ok    %s\n' "$*"; }
ms() { printf '%s' "$(($(date +%s%N) / 1000000))"; }

# What is tested.

shopt -s nullglob
found=("$root"/target/deb/holdfast_*.deb)
shopt -u nullglob
if [[ $# -eq 0 ]]; then
    ((${#found[@]} == 1)) \
        || { printf 'test: %s packages in target/deb; name one, or run packaging/build.sh\n' "${#found[@]}" >&2; exit 1; }
    deb=${found[0]}
else
    deb=$(realpath -e "$1")
fi

# What it takes.

[[ $EUID -eq 0 ]] || skip "a container needs root; try: sudo $0"
for tool in mmdebstrap systemd-nspawn nsenter ps dpkg-deb; do
    command -v "$tool" >/dev/null \
        || skip "$tool is not there; try: apt install mmdebstrap systemd-container util-linux procps"
done

work=$(mktemp -d "${TMPDIR:-/var/tmp}/holdfast-packaging.XXXXXX")
container=
init=
clean() {
    if [[ -n $container ]] && kill -0 "$container" 2>/dev/null; then
        [[ -z $init ]] || nsenter -t "$init" -a systemctl poweroff 2>/dev/null || true
        for _ in {1..100}; do
            kill -0 "$container" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$container" 2>/dev/null || true
        wait "$container" 2>/dev/null || true
    fi
    rm -rf --one-file-system "$work"
}
trap clean EXIT
trap 'printf "FAIL  line %s: %s\n" "$LINENO" "$BASH_COMMAND" >&2' ERR

# Without starting anything: size, contents, lintian.

mkdir "$work/unpacked"
dpkg-deb -x "$deb" "$work/unpacked"
size=$(stat -c %s "$work/unpacked/usr/bin/holdfast")
say "package   $(stat -c %s "$deb") bytes, installed $(du -sb "$work/unpacked" | cut -f 1) bytes"
say "depends   $(dpkg-deb -f "$deb" Depends)"
((size <= BINARY_BYTES_MAX)) || fail "the binary has $size bytes, the limit is $BINARY_BYTES_MAX"
ok "the binary has $size bytes, the limit is $BINARY_BYTES_MAX"

if command -v lintian >/dev/null; then
    # Warnings count: there is no reason yet for an exception.
    findings=$(lintian --allow-root --pedantic --display-info --fail-on error,warning "$deb" 2>&1) && clear=yes || clear=no
    [[ -z $findings ]] || sed 's/^/lintian   /' <<<"$findings"
    [[ $clear == yes ]] || fail "lintian finds errors or warnings"
    ok "lintian: no error, no warning"
else
    say "lintian   is not there and was left out; try: apt install lintian"
fi

# A system.

base="$root/target/packaging-test/$suite.tar"
if [[ ! -e $base ]]; then
    mkdir -p "${base%/*}"
    mmdebstrap --format=tar --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates,curl \
        "$suite" "$base.new" >"$work/mmdebstrap.log" 2>&1 \
        || { tail -n 5 "$work/mmdebstrap.log" >&2; skip "no file system of Debian $suite could be made"; }
    mv "$base.new" "$base"
fi
mkdir "$work/system"
tar -C "$work/system" -xpf "$base" --numeric-owner
printf '127.0.0.1 localhost\n::1 localhost\n' >"$work/system/etc/hosts"
cp "$deb" "$work/system/srv/holdfast.deb"

inside() { nsenter -t "$init" -a env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"; }

systemd-nspawn --quiet --boot --register=no --keep-unit --private-network --console=pipe \
    --machine=holdfast-test --directory="$work/system" <&- >"$work/console.log" 2>&1 &
container=$!
for _ in {1..300}; do
    kill -0 "$container" 2>/dev/null \
        || { tail -n 5 "$work/console.log" >&2; skip "systemd-nspawn cannot boot a container"; }
    init=$(ps -o pid= --ppid "$container" | tr -d ' ' | head -n 1) || true
    if [[ -n $init ]]; then
        state=$(inside systemctl is-system-running 2>/dev/null || true)
        [[ $state != running && $state != degraded ]] || break
    fi
    sleep 0.1
done
[[ ${state:-} == running || ${state:-} == degraded ]] || skip "the container did not come up in 30 s"
say "system    Debian $(cat "$work/system/etc/debian_version"), $(inside systemctl --version | head -n 1), $state"

# The steps.

apt() { inside apt-get -y -q "$@" >"$work/apt.log" 2>&1 || { cat "$work/apt.log" >&2; fail "apt-get $*"; }; }
active() { [[ $(inside systemctl is-active holdfast 2>/dev/null || true) == active ]]; }
main_pid() { inside systemctl show -p MainPID --value holdfast; }
code() { inside curl -s -o /dev/null -m 2 -w '%{http_code}' "http://127.0.0.1:$PORT$1" 2>/dev/null || true; }
wait_ready() {
    for _ in {1..500}; do
        [[ $(code /readyz) != 200 ]] || return 0
        sleep 0.01
    done
    fail "$1: /readyz does not answer 200"
}
# Paths that the package, or having had it, leaves.
snapshot() {
    inside find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/tmp -o -path /dev \
        -o -path /var/log -o -path /var/cache -o -path /var/lib/dpkg -o -path /var/lib/apt \) -prune -o -print |
        sort
}
owner() { inside stat -c '%a %U:%G' "$1"; }
expect() { [[ $2 == "$3" ]] || fail "$1: it is \"$2\" and should be \"$3\""; }
token_works() {
    inside holdfast --token-file /srv/token status >/dev/null || fail "$1: the token is not valid any more"
}

snapshot >"$work/before"
(($(wc -l <"$work/before") > 1000)) || fail "the files of the system cannot be listed"

from=$(ms)
apt install /srv/holdfast.deb
active || fail "after the installation the service is not active"
wait_ready "after the installation"
ok "installed and ready after $(($(ms) - from)) ms"
grep -q 'sudo holdfast status' "$work/apt.log" || fail "the installation does not say what to try"
grep '^holdfast: ' "$work/apt.log" | sed 's/^/      /'
expect "after a start" "$(inside systemctl is-enabled holdfast)" enabled
expect "/var/lib/holdfast" "$(owner /var/lib/holdfast)" "700 holdfast:holdfast"
expect "admin.token" "$(owner /var/lib/holdfast/admin.token)" "600 holdfast:holdfast"
expect "/run/holdfast" "$(owner /run/holdfast)" "755 holdfast:holdfast"
expect "the socket" "$(owner /run/holdfast/holdfast.sock)" "660 holdfast:holdfast"
expect "holdfast.toml" "$(owner /etc/holdfast/holdfast.toml)" "644 root:root"
expect "/v1/status without a token" "$(code /v1/status)" 401
ok "active, enabled, owners and permissions as they should be, 200 on /readyz, 401 without a token"

inside holdfast status | sed 's/^/      /'
ok "holdfast status works for root without an option"
inside sh -c 'umask 077; holdfast token create packaging --scope admin >/srv/token' 2>"$work/token.log" \
    || { cat "$work/token.log" >&2; fail "a token cannot be made"; }
token_works "just made"
ok "a token was made, and works"
! inside bash -c 'exec setpriv --reuid=nobody --regid=nogroup --clear-groups holdfast status' >"$work/nobody.log" 2>&1 \
    || fail "anybody can read the administrator's token"
ok "holdfast status is refused to others: $(head -n 1 "$work/nobody.log")"

pid=$(main_pid)
inside sed -i 's/^#level = .*/level = "debug"/' /etc/holdfast/holdfast.toml
inside systemctl reload holdfast || fail "systemctl reload fails"
expect "the pid after a reload" "$(main_pid)" "$pid"
inside journalctl -q -u holdfast | grep -q 'log.level: .* -> .*debug' || fail "the reload did not tell what changed"
inside sed -i 's/^level = .*/level = "loud"/' /etc/holdfast/holdfast.toml
! inside systemctl reload holdfast 2>/dev/null || fail "a reload of wrong settings succeeds"
active || fail "a reload of wrong settings ended the service"
inside sed -i 's/^level = .*/level = "debug"/' /etc/holdfast/holdfast.toml
inside systemctl reload holdfast || fail "systemctl reload fails after the settings were corrected"
ok "systemctl reload: the change is in force, the pid is the same; wrong settings are refused, it goes on"

from=$(ms)
inside bash -c "kill -9 $pid"
wait_ready "after kill -9"
[[ $(main_pid) != "$pid" ]] || fail "kill -9 killed nothing"
ok "ready again $(($(ms) - from)) ms after kill -9"
token_works "after kill -9"

pid=$(main_pid)
from=$(ms)
apt install --reinstall /srv/holdfast.deb
wait_ready "after the upgrade"
took=$(($(ms) - from))
[[ $(main_pid) != "$pid" ]] || fail "an upgrade does not restart the service"
# The time in which nobody served, as systemd saw it.
gap=$(inside journalctl -q -u holdfast -o short-unix | awk '
    / systemd\[1\]: Stopping / { stopping = $1 } / systemd\[1\]: Started / { started = $1 }
    END { printf "%d", (started - stopping) * 1000 }')
inside grep -q '^level = "debug"' /etc/holdfast/holdfast.toml || fail "the upgrade took the change of the settings away"
token_works "after the upgrade"
ok "upgraded (same version) in $took ms, away for $gap ms; settings and state kept"

say "$(inside systemd-analyze security --no-pager holdfast.service | tail -n 1 | sed 's/^[^A-Za-z]*/security  /')"
score=$(inside systemd-analyze security --no-pager holdfast.service | sed -n 's/.*Overall exposure level.*: \([0-9.]*\).*/\1/p')
awk -v score="$score" -v most="$SECURITY_MAX" 'BEGIN { exit !(score != "" && score <= most) }' \
    || fail "exposed more than $SECURITY_MAX: $score"
inside systemd-analyze verify --man=no holdfast.service 2>"$work/verify.log" || true
! grep holdfast "$work/verify.log" || fail "systemd-analyze verify has something to say"
warnings=$(inside journalctl -q -u holdfast -p warning | grep -v -e 'killed or lost power' -e 'settings' -e 'systemd\[1\]' || true)
[[ -z $warnings ]] || sed 's/^/journal   /' <<<"$warnings"
ok "exposed by $score, the limit is $SECURITY_MAX"

apt remove holdfast
! active || fail "it runs after it was removed"
[[ ! -e $work/system/usr/bin/holdfast ]] || fail "the binary is still there"
[[ -e $work/system/var/lib/holdfast/catalog.sqlite && -e $work/system/etc/holdfast/holdfast.toml ]] \
    || fail "remove deleted state or settings"
ok "removed: not running, state and settings kept"

apt install /srv/holdfast.deb
active || fail "it does not run after it was installed again"
wait_ready "installed again"
token_works "installed again"
inside grep -q '^level = "debug"' /etc/holdfast/holdfast.toml || fail "the settings were lost"
ok "installed again: state and settings are back, the token is valid"

inside install -d -o holdfast -g holdfast -m 700 /var/backups/holdfast
apt purge holdfast
snapshot >"$work/after"
# The user stays by intent, with the copies that its making left.
left=$(comm -13 "$work/before" "$work/after" |
    grep -v -x -e /var/backups/holdfast -e '/etc/\(passwd\|group\|shadow\|gshadow\)-' -e /etc/.pwd.lock -e /srv/token || true)
[[ -z $left ]] || fail "purge leaves: $left"
[[ ! -e $work/system/var/backups/holdfast ]] && fail "purge deleted the backups"
inside test ! -e /run/holdfast || fail "purge leaves /run/holdfast"
expect "after purge" "$(inside systemctl show -p LoadState --value holdfast)" not-found
ok "purged: nothing is left but the backups and the user"
say "all of it holds"
