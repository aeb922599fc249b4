#!/usr/bin/env bash
# What can be proved of the bridge to Core ML without a Mac. On Debian 12, as root or with sudo, with rustup's Rust; apt
# and cargo get the rest. Everything it makes is under .cache/apple.
#
#     scripts/apple_evidence.sh             all of it
#     scripts/apple_evidence.sh STEP...     some
#     DEFECTS=1/4 scripts/apple_evidence.sh every fourth seeded defect only
#
# | step       | proves |
# |---|---|
# | packages   | (installs what the others need) |
# | compile    | clippy, warnings as errors, against Apple's targets and a std built from Debian's sources |
# | link       | the command as a Mach-O executable for Apple silicon: every symbol it imports is one that a Mac has |
# | standin    | the bridge and the backend run, against a Core ML of our own on a real Objective-C runtime |
# | swift      | the Rust side of the Swift bridge, against the same functions in C, also under valgrind |
# | leaks      | the same under valgrind: nothing lost, nothing read or written that is not ours |
# | sanitizers | the same with AddressSanitizer |
# | threads    | the same with ThreadSanitizer, and a std that is instrumented for it; loom; seeded races |
# | defects    | that the tests see what they are for: seeded defects, one at a time, in a copy |
# | metadata   | selectors, blocks and numbers against pyobjc's, a second reading of Apple's headers |
#
# What it cannot prove is in docs/safety.md.
set -Eeuo pipefail
cd "$(dirname "$0")/.."

cache=$PWD/.cache/apple
sysroot=$cache/sysroot
steps=(packages compile link standin swift leaks sanitizers threads defects metadata)
# The numbers of tests: a process that ends early, with success, is not one that passed.
BRIDGE_TESTS=61 BACKEND_TESTS=12
DEFECTS=${DEFECTS:-1/1}
# The engine is not what is tested here.
quick=(--config 'profile.dev.package.milwright-cpu.opt-level=0' --config 'profile.dev.package.milwright-optimize.opt-level=0')
current=start skipped=()
export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0

main() {
    mkdir -p "$cache"
    [ $# -gt 0 ] || set -- "${steps[@]}"
    local name start report=()
    for name in "$@"; do
        start=$SECONDS current=$name
        printf '\n== apple: %s ==\n' "$name"
        "$name"
        report+=("$(printf '%-12s %5ss' "$name" $((SECONDS - start)))")
    done
    current=end
    printf '\n== apple: summary ==\n'
    printf '%s\n' "${report[@]}"
    printf 'SKIPPED: %s\n' ${skipped[@]+"${skipped[@]}"} | grep -v ': $' || true
}

trap 'code=$?; [ "$current" = end ] || printf "\nFAILED in step apple: %s (exit %s)\n" "$current" "$code" >&2' EXIT

skip() { echo "SKIPPED: $*"; skipped+=("$*"); }

packages() {
    # Debian 12's, whose versions do not change but for security.
    local wanted=(gcc libc6-dev 'gobjc=4:12.2.*' 'libgnustep-base-dev=1.28.*' 'libblocksruntime-dev=0.4.1*'
        'clang-14=1:14.0.*' 'llvm-14=1:14.0.*' 'valgrind=1:3.19.*' python3 python3-venv ca-certificates debian-archive-keyring)
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -qq -y --no-install-recommends "${wanted[@]}" >/dev/null
}

compile() {
    local target
    for target in aarch64-apple-darwin x86_64-apple-darwin aarch64-apple-ios; do
        scripts/std.sh "$target" "$sysroot"
        local crates=(-p milwright-apple -p milwright)
        [ "$target" = aarch64-apple-ios ] || crates+=(-p milwright-cli)
        # DOCS_RS tells one build script to compile no Objective-C; `link` compiles it.
        apple "$target" env DOCS_RS=1 cargo clippy --locked --target "$target" --target-dir target/apple-check \
            "${crates[@]}" "${quick[@]}" -- -D warnings
    done
    # A wrong type has to be an error, or all of this proves nothing.
    echo 'pub fn wrong(a: &milwright_apple::Array) -> i32 { a.shape() }' >"$cache/wrong.rs"
    local rlib
    rlib=$(find target/apple-check/aarch64-apple-darwin/debug/deps -name 'libmilwright_apple-*.rmeta' | head -1)
    if rustc --edition 2024 --crate-type lib --emit metadata --target aarch64-apple-darwin --sysroot "$sysroot" \
        -L dependency=target/apple-check/aarch64-apple-darwin/debug/deps -L dependency=target/apple-check/debug/deps \
        --extern "milwright_apple=$rlib" -o "$cache/wrong.rmeta" "$cache/wrong.rs" 2>"$cache/wrong.log"; then
        echo 'a wrong type was accepted' >&2
        return 1
    fi
    grep -q E0308 "$cache/wrong.log" || { cat "$cache/wrong.log" >&2; return 1; }
    echo 'a wrong type is refused'
}

# apple TARGET COMMAND...: with the environment that the target's compiler and linker need.
apple() {
    local target=$1 name
    shift
    name=$(echo "$target" | tr a-z- A-Z_)
    env "CARGO_TARGET_${name}_RUSTFLAGS=--sysroot=$sysroot ${APPLE_RUSTFLAGS:-}" "$@"
}

link() {
    local target=aarch64-apple-darwin program=target/apple-link/aarch64-apple-darwin/debug/milwright
    scripts/std.sh "$target" "$sysroot"
    rm -rf "$cache/sdk"
    scripts/apple/sdk.sh "$cache/sdk"
    APPLE_RUSTFLAGS='-Clinker-flavor=ld64.lld -Clinker=rust-lld' apple "$target" env SDKROOT="$cache/sdk" \
        CC_aarch64_apple_darwin=clang-14 AR_aarch64_apple_darwin=llvm-ar-14 \
        cargo build --locked -p milwright-cli --target "$target" --target-dir target/apple-link \
        "${quick[@]}" --config 'profile.dev.debug=false'
    scripts/apple/macho.py "$program" arm64 CoreML Foundation CoreVideo libobjc libSystem
    llvm-otool-14 -L "$program" | grep -q CoreML.framework
    # Without the functions of the Objective-C runtime it must not link.
    rm -rf "$cache/sdk-empty"
    cp -r "$cache/sdk" "$cache/sdk-empty"
    sed -i 's/symbols: \[.*\]/symbols: [ ]/' "$cache/sdk-empty/usr/lib/libobjc.tbd"
    touch crates/cli/src/main.rs
    if APPLE_RUSTFLAGS='-Clinker-flavor=ld64.lld -Clinker=rust-lld' apple "$target" env SDKROOT="$cache/sdk-empty" \
        CC_aarch64_apple_darwin=clang-14 AR_aarch64_apple_darwin=llvm-ar-14 \
        cargo build --locked -p milwright-cli --target "$target" --target-dir target/apple-link \
        "${quick[@]}" --config 'profile.dev.debug=false' >"$cache/unlinked.log" 2>&1; then
        echo 'it links without symbols' >&2
        return 1
    fi
    grep -q 'undefined symbol: _objc_msgSend' "$cache/unlinked.log"
    echo 'a symbol that no library has is refused'
}

# passed LOG COUNT: as many tests as there should be, and nothing that GNUstep complains of.
passed() {
    local count
    count=$(grep -oE '^test result: ok\. [0-9]+ passed' "$1" | awk '{ n += $4 } END { print n + 0 }')
    if grep -q 'autorelease called without pool' "$1"; then
        echo 'GNUstep saw an object without an autorelease pool' >&2
        return 1
    fi
    if [ "$count" -lt "$2" ]; then
        echo "$count tests ran, not $2" >&2
        return 1
    fi
    echo "$count tests passed"
}

standin() {
    scripts/apple/standin.sh clippy --locked -p milwright-apple --all-targets -- -D warnings
    scripts/apple/standin.sh test --locked -p milwright-apple --tests 2>&1 | tee "$cache/standin.log"
    passed "$cache/standin.log" "$BRIDGE_TESTS"
    scripts/apple/standin.sh test --locked -p milwright --test coreml "${quick[@]}" 2>&1 | tee "$cache/backend.log"
    passed "$cache/backend.log" "$BACKEND_TESTS"
}

swift() { scripts/apple/swift.sh; }

leaks() {
    local runner="valgrind --quiet --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
--num-callers=60 --error-exitcode=9 --fair-sched=yes --suppressions=$PWD/scripts/apple/valgrind.supp"
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$runner scripts/apple/standin.sh test --locked -p milwright-apple \
        --tests -- --skip at_random 2>&1 | tee "$cache/valgrind.log"
    passed "$cache/valgrind.log" $((BRIDGE_TESTS - 1))
}

sanitizers() {
    # GNUstep's own threads and tables are not instrumented: AddressSanitizer watches the bridge's memory, without
    # LeakSanitizer, whose place valgrind has.
    RUSTC_BOOTSTRAP=1 ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0 STANDIN_RUSTFLAGS='-Zsanitizer=address' \
        STANDIN_TARGET=target/standin-asan scripts/apple/standin.sh test --locked -p milwright-apple --tests \
        --target x86_64-unknown-linux-gnu -- --skip at_random 2>&1 | tee "$cache/asan.log"
    passed "$cache/asan.log" $((BRIDGE_TESTS - 1))
}

threads() {
    local target=x86_64-unknown-linux-gnu
    scripts/std.sh "$target" "$cache/sysroot-tsan" thread
    # The stand-in is instrumented, too; GNUstep is not: what it does with its locks is seen, its memory is not.
    RUSTC_BOOTSTRAP=1 STANDIN=$cache/standin-tsan STANDIN_INSTRUMENT=-fsanitize=thread \
        STANDIN_RUSTFLAGS="-Zsanitizer=thread --sysroot=$cache/sysroot-tsan" STANDIN_TARGET=target/standin-tsan \
        TSAN_OPTIONS="suppressions=$PWD/scripts/apple/tsan.supp atexit_sleep_ms=0" \
        scripts/apple/standin.sh test --locked -p milwright-apple --tests --target "$target" 2>&1 | tee "$cache/tsan.log"
    passed "$cache/tsan.log" "$BRIDGE_TESTS"
    RUSTFLAGS='--cfg loom' cargo test --locked -p milwright-apple --lib --target-dir target/loom loom 2>&1 | tee "$cache/loom.log"
    passed "$cache/loom.log" 2
    python3 scripts/apple/defects.py --races
}

defects() {
    python3 scripts/apple/defects.py --part "$DEFECTS"
}

metadata() {
    local python=$cache/python
    if ! { [ -x "$python/bin/pip" ] || python3 -m venv "$python"; }; then
        skip 'the comparison with pyobjc: no Python with pip'
    elif "$python/bin/python" -m pip download --quiet --disable-pip-version-check --dest "$cache/pyobjc" --no-deps \
        --only-binary=:all: --platform=macosx_11_0_universal2 --python-version=3.12 pyobjc-framework-CoreML==12.2.2; then
        "$python/bin/python" scripts/apple/check_metadata.py "$cache"/pyobjc/*.whl
    else
        skip 'the comparison with pyobjc: PyPI cannot be reached'
    fi
}

main "$@"
