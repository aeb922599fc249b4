#!/usr/bin/env bash
# The tests on machines that this one is not: Arm (Linux) under QEMU, Windows under Wine. On Debian 12, x86-64, as root or
# with sudo.
#
#     scripts/other_machines.sh arm|windows              a sample: what differs most between machines
#     scripts/other_machines.sh arm|windows all          every crate
#     scripts/other_machines.sh arm|windows CRATE...     some, without the prefix: files, formats, cache, mil, ...
#     scripts/other_machines.sh arm|windows prepare      no test: installs what they need, and fails where they cannot run
#
# QEMU_CPU=cortex-a53 has QEMU be a CPU with fewer features, for the kernels that are chosen there. What is set aside,
# and why, is in scripts/machines/set_aside.txt. Everything it makes is under .cache/machines and target.
#
# Wine is not Windows: what fails is looked at, what passes is evidence, no more. Wine renames folders in which files are
# open, and lets others read what is locked, which Windows does not: the cache's test with a strict disk has that.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD/scripts/machines cache=$PWD/.cache/machines
every=(files formats cache worker mil convert optimize cpu milwright testkit cli)
export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0 MILWRIGHT_MUTATIONS=${MILWRIGHT_MUTATIONS:-2000}

main() {
    local machine=${1:-} target crates=()
    case $machine in
        arm) target=aarch64-unknown-linux-gnu ;;
        windows) target=x86_64-pc-windows-gnu ;;
        *) sed -n '4,9s/^# *//p' "$0" >&2; exit 2 ;;
    esac
    shift
    mkdir -p "$cache"
    "packages_$machine"
    if [ "${1:-}" = prepare ]; then
        "environment_$machine" ANY
        "around_$machine" true
        return
    fi
    scripts/std.sh "$target" "$cache/sysroot-$machine"
    case ${1:-sample} in
        sample) [ "$machine" = arm ] && crates=(cpu) || crates=(files formats cache worker) ;;
        all) crates=("${every[@]}") ;;
        *) crates=("$@") ;;
    esac
    local packages=() crate skips=() test
    for crate in "${crates[@]}"; do
        [ "$crate" = milwright ] && packages+=(-p milwright) || packages+=(-p "milwright-$crate")
    done
    while read -r test; do skips+=(--skip "$test"); done < <(awk -v m="$machine" '$1 == m { print $2 }' "$here/set_aside.txt")
    echo "set aside: ${#skips[@]} words; see scripts/machines/set_aside.txt"
    # RUSTC_BOOTSTRAP: the standard library was built with it, and says so.
    local name
    name=$(tr a-z- A-Z_ <<<"$target")
    export "CARGO_TARGET_${name}_RUSTFLAGS=--sysroot=$cache/sysroot-$machine" RUSTC_BOOTSTRAP=1
    "environment_$machine" "$name"
    "around_$machine" cargo test --locked --no-fail-fast --target "$target" --tests "${packages[@]}" -- ${skips[@]+"${skips[@]}"}
}

packages_arm() { debian qemu-aarch64:qemu-user aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu :libc6-dev-arm64-cross; }
packages_windows() { debian wine:wine wine64:wine64 x86_64-w64-mingw32-gcc:gcc-mingw-w64-x86-64; }

# debian COMMAND:PACKAGE...: installs all if a command is missing.
debian() {
    local pair missing=no sudo=()
    for pair in "$@"; do
        [ -z "${pair%%:*}" ] || command -v "${pair%%:*}" >/dev/null || missing=yes
    done
    [ "$missing" = yes ] || return 0
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -qq -y --no-install-recommends "${@##*:}" >/dev/null
}

# Tests start themselves again, with and without an environment: what runs them is a program that needs none.
environment_arm() {
    cat >"$cache/arm" <<SH
#!/bin/sh
exec qemu-aarch64 -cpu ${QEMU_CPU:-max} -L /usr/aarch64-linux-gnu "\$@"
SH
    chmod +x "$cache/arm"
    export "CARGO_TARGET_$1_LINKER=aarch64-linux-gnu-gcc" "CARGO_TARGET_$1_RUNNER=$cache/arm"
}

# The kernel has Arm's programs run by QEMU in a namespace of their own only: nothing changes for the machine.
around_arm() {
    local elf='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    local mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    unshare --user --map-root-user --mount bash -euc '
        mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
        printf %s "$1" >/proc/sys/fs/binfmt_misc/register
        shift
        exec "$@"' - ":milwright-arm:M::$elf:$mask:$cache/arm:" "$@"
}

environment_windows() {
    export WINEPREFIX=$cache/wine WINEDEBUG=-all WINEDLLOVERRIDES=mscoree,mshtml=
    mkdir -p "$cache/dll"
    x86_64-w64-mingw32-gcc -O1 -shared -o "$cache/dll/bcryptprimitives.dll" "$here/prng.c" -ladvapi32
    [ -d "$WINEPREFIX" ] || wineboot --init
    WINEPATH=$(winepath -w "$cache/dll" 2>/dev/null)
    export WINEPATH "CARGO_TARGET_$1_LINKER=x86_64-w64-mingw32-gcc" "CARGO_TARGET_$1_RUNNER=wine"
}

around_windows() {
    local code=0
    "$@" || code=$?
    wineserver -k || true
    return "$code"
}

main "$@"
