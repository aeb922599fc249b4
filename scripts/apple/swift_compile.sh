#!/usr/bin/env bash
# Compiles MilwrightSwift.swift with a real Swift, against a small Core ML of our own (crates/apple/standin/CoreML.swift),
# and runs the tests of the Swift bridge with it.
#
# Swift is the one of SWIFTC, or that of Debian 13 in a folder of its own: the first run downloads some 600 MB and takes
# minutes, and needs root, for debootstrap and chroot. It is no part of the gate.
#
# What it proves: the file compiles, and does what its header says, over declarations that we believe to be Apple's.
# That they are Apple's, only a Mac can prove.
set -euo pipefail
cd "$(dirname "$0")/../.."
tests=18
out=$PWD/.cache/apple/swift
root=$out/trixie
mkdir -p "$out"

if [ -z "${SWIFTC:-}" ] && [ ! -e "$root/usr/bin/swiftc" ]; then
    rm -rf "$root"
    debootstrap --variant=minbase trixie "$root" "$(scripts/apt_mirror.sh)"
    chroot "$root" apt-get install -y --no-install-recommends swiftlang libc6-dev g++
    chroot "$root" apt-get clean
fi

# Both files into one folder, which is the same inside and outside of the other root.
work=$root/work
[ -z "${SWIFTC:-}" ] || work=$out/work
mkdir -p "$work"
cp -r crates/apple/swift/. crates/apple/standin/CoreML.swift "$work/"
compile() {
    local options="-swift-version 5 -parse-as-library -warnings-as-errors -g -emit-library -emit-module -L . -I ."
    if [ -n "${SWIFTC:-}" ]; then
        (cd "$work" && "$SWIFTC" $options "$@")
    else
        # The compiler finds its files by /proc, which is mounted for this one command only.
        unshare --mount sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" sh -c "cd /work && exec swiftc $1"' \
            "$root" "$options $*"
    fi
}
compile -module-name CoreML CoreML.swift -o libCoreML.so
compile -module-name MilwrightSwift MilwrightSwift.swift -lCoreML -o libMilwrightSwift.so

# The program is linked for this machine. Swift's libraries want a newer libc than Debian 12's: they come with it.
program=$(
    env -u RUSTC_WRAPPER RUSTFLAGS="--cfg milwright_swift_standin --cfg milwright_swift_compiled" \
        CARGO_TARGET_DIR=target/swift-compiled cargo rustc -q --locked -p milwright-apple --features swift \
        --test swift --profile test --message-format json -- \
        -L "native=$work" -C link-arg=-lMilwrightSwift -C link-arg=-lCoreML -C link-arg=-Wl,--allow-shlib-undefined |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
)
if [ -n "${SWIFTC:-}" ]; then
    run=(env "LD_LIBRARY_PATH=$work" "$program")
else
    libraries=$work:$root/usr/libexec/swift/lib/swift/linux:$root/usr/lib/x86_64-linux-gnu
    run=("$root/lib64/ld-linux-x86-64.so.2" --library-path "$libraries" "$program")
fi
timeout 300 "${run[@]}" 2>&1 | tee "$out/log" | tail -n 40
grep -q "^test result: ok. $tests passed; 0 failed; 0 ignored" "$out/log" || { echo "not $tests tests passed" >&2; exit 1; }
