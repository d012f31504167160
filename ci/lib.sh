# shellcheck shell=bash
# shellcheck disable=SC2034 # much here is for those who source it
# What the scripts of ci/ share: where things are, and how they speak. Sourced, never run.

set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
me=${0##*/}

say() { printf 'dev: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# A script's opening comment is its help: one text, in one place.
usage() {
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$1"
}

# A mistake in how a script was called.
misuse() {
    say "$*"
    say "./dev help $me says what there is"
    exit 2
}

# ── Where things are ─────────────────────────────────────────────────────────

# The cache is the person's, not root's: sudo must not split it in two.
find_cache() {
    local home=${HOME:-/}
    if [ -n "${SUDO_USER:-}" ] && [ "$EUID" = 0 ]; then
        home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    fi
    realpath -m "${POSTERN_CACHE:-${XDG_CACHE_HOME:-$home/.cache}/postern}"
}

short_hash() { sha256sum | cut -c1-12; }

package_list() { sed 's/#.*//; s/[[:space:]]//g; /^$/d' "$checkout/ci/packages"; }

cache=$(find_cache)
if [ -z "${POSTERN_INSIDE:-}" ]; then
    # The root, the builds and the clients each carry in their name what they were made of.
    packages_hash=$(package_list | short_hash)
    root=$cache/root-$packages_hash
    build=$cache/build/${checkout##*/}-$(short_hash <<<"$checkout")
    clients=$cache/clients-$(cd "$checkout" && cat ci/packages ci/clients \
        docs/examples/python/requirements.txt docs/examples/node/package-lock.json | short_hash)
else
    # Set by ./dev and carried along; inside, only the one who entered knows them.
    root=$POSTERN_ROOT build=$POSTERN_BUILD clients=$POSTERN_CLIENTS
fi

# The verbs' scripts work inside the root. Called by hand outside, they enter it first.
inside() {
    case ${1:-} in
        -h | --help | help)
            usage "$0"
            exit
            ;;
    esac
    [ -n "${POSTERN_INSIDE:-}" ] || exec "$checkout/dev" "$me" "$@"
}

# We may run as root in a checkout that is somebody's: what we write there is theirs.
give_back() {
    [ "$EUID" != 0 ] || chown -h --reference="$checkout" "$@"
}

# ── The toolchain's versions ─────────────────────────────────────────────────

toolchain_lock=$checkout/ci/toolchain.lock

# package=version of all that is installed in the root at $1, sorted.
toolchain() {
    dpkg-query --admindir="$1/var/lib/dpkg" -W -f '${Package}=${Version}\n' | LC_ALL=C sort
}

# Says in one line where the versions in file $1 are not those recorded; fails then.
compare_toolchain() {
    [ -e "$toolchain_lock" ] || { say "there is no ci/toolchain.lock: ./dev lock writes it" && return 1; }
    local differing
    differing=$(awk -F= '
        /^#/ { next }
        FNR == NR { locked[$1] = $2; next }
        !($1 in locked) { print $1 " " $2 " (not in the lock)" }
        $1 in locked && locked[$1] != $2 { print $1 " " $2 " (locked: " locked[$1] ")" }
        { delete locked[$1] }
        END { for (name in locked) print name " (missing, locked: " locked[name] ")" }
    ' "$toolchain_lock" "$1" | LC_ALL=C sort |
        awk 'NR <= 6 { line = line (NR > 1 ? ", " : "") $0 }
            END { print line (NR > 6 ? " and " NR - 6 " more" : "") }')
    [ -z "$differing" ] || { say "the toolchain differs from ci/toolchain.lock: $differing" && return 1; }
}

# ── Removing ─────────────────────────────────────────────────────────────────

# What is mounted below is not ours to delete.
remove_tree() {
    ! grep -qF " $1/" /proc/self/mountinfo || die "$1 has mounts below it: umount them first"
    rm -rf --one-file-system "$1"
}

# Does any process have this as its / ?
root_in_use() {
    local id ids
    id=$(stat -c %d:%i "$1")
    # Processes come and go, and some have none: not an error of stat's that we care for.
    ids=$(stat -Lc %d:%i /proc/[0-9]*/root 2>/dev/null || true)
    grep -qx "$id" <<<"$ids"
}

# ── Progress ─────────────────────────────────────────────────────────────────
# One line per step, with what it counts and its time. On a terminal the line is
# redrawn in place; elsewhere it is printed when the step ends, and every ten
# seconds before that, so that a log shows both life and brevity.

step_name='' step_text='' step_began=0 step_shown=0

step() {
    step_end
    step_name=$1 step_text='' step_began=$SECONDS step_shown=$SECONDS
    [ ! -t 2 ] || step_draw
}

# What the step has counted so far.
step_is_at() {
    step_text=$1
    if [ -t 2 ]; then
        step_draw
    elif ((SECONDS - step_shown >= 10)); then
        step_draw
        step_shown=$SECONDS
    fi
}

step_draw() {
    local before='' after=$'\n'
    [ ! -t 2 ] || before=$'\r\033[K' after=''
    printf '%s  %-26s %4d s%s%s' "$before" "$step_name" $((SECONDS - step_began)) \
        "${step_text:+  $step_text}" "${1:-$after}" >&2
}

step_end() {
    [ -z "$step_name" ] || step_draw $'\n'
    step_name=''
}
