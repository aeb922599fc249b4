#!/usr/bin/env bash
# Tests the Rust side of the Swift bridge against a stand-in in C, also under valgrind, which must find a leak that is
# put there. Needs: gcc, valgrind (or --no-valgrind).
set -euo pipefail
cd "$(dirname "$0")/../.."
tests=22

out=$PWD/.cache/apple/swift-c
mkdir -p "$out"
build() {
    gcc -std=gnu11 -gdwarf-4 -O1 -Wall -Wextra -Werror -fPIC -shared "$@" \
        -o "$out/libMilwrightSwift.so" crates/apple/standin/swift.c -lpthread
}
# The program of the tests.
program() {
    env -u RUSTC_WRAPPER RUSTFLAGS="--cfg milwright_swift_standin" CARGO_TARGET_DIR=target/swift \
        cargo rustc -q --locked -p milwright-apple --features swift --test swift --profile test --message-format json \
        -- -L "native=$out" -C link-arg=-lMilwrightSwift -C "link-arg=-Wl,-rpath,$out" |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
}
# Runs it, and counts.
run() {
    local log=$out/log
    "$@" 2>&1 | tee "$log" | tail -n 40
    grep -q "^test result: ok. $tests passed; 0 failed; 0 ignored" "$log" || { echo "not $tests tests passed" >&2; exit 1; }
}

python3 scripts/apple/swift_contract.py
build
program=$(program)
# Minutes, for what takes seconds: a test that hangs has failed.
run timeout 60 "$program"
[ "${1:-}" != --no-valgrind ] || exit 0

# Rust's test harness keeps some memory to the end; what is lost is an error.
checked() {
    timeout 540 valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \
        --error-exitcode=99 "$program" --test-threads=1 "$@"
}
run checked
# And it does find something: objects that are never freed.
build -DSEED_LEAK
if checked predictions_compute >"$out/leak" 2>&1; then
    echo "valgrind did not find the leak that was put there" >&2
    exit 1
fi
grep -q 'definitely lost' "$out/leak" || { tail "$out/leak" >&2; exit 1; }
echo "valgrind finds no leak, and finds the one that is put there"
build
