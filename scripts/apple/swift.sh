#!/usr/bin/env bash
# Tests the Rust side of the Swift bridge, and the backend over it, against a stand-in in C, also under valgrind, which
# must find a leak that is put there. --no-valgrind goes without that, --no-backend without the backend, which takes long
# to build. Needs: gcc, valgrind.
set -euo pipefail
cd "$(dirname "$0")/../.."
tests=29 backend_tests=4
# The engine is not what is tested here.
quick=(--config 'profile.dev.package.milwright-cpu.opt-level=0' --config 'profile.dev.package.milwright-optimize.opt-level=0')

out=$PWD/.cache/apple/swift-c
mkdir -p "$out"
build() {
    gcc -std=gnu11 -gdwarf-4 -O1 -Wall -Wextra -Werror -fPIC -shared "$@" \
        -o "$out/libMilwrightSwift.so" crates/apple/standin/swift.c -lpthread
}
# The program of a crate's tests.
program() {
    env -u RUSTC_WRAPPER RUSTFLAGS="--cfg milwright_swift_standin" CARGO_TARGET_DIR=target/swift \
        cargo rustc -q --locked -p "$@" --features swift --test swift --profile test --message-format json "${quick[@]}" \
        -- -L "native=$out" -C link-arg=-lMilwrightSwift -C "link-arg=-Wl,-rpath,$out" |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
}
# run TESTS COMMAND...: runs it, and counts.
run() {
    local log=$out/log tests=$1
    shift
    "$@" 2>&1 | tee "$log" | tail -n 40
    grep -q "^test result: ok. $tests passed; 0 failed; 0 ignored" "$log" || { echo "not $tests tests passed" >&2; exit 1; }
}

python3 scripts/apple/swift_contract.py
build
program=$(program milwright-apple)
# Minutes, for what takes seconds: a test that hangs has failed.
run $tests timeout 300 "$program"
[[ " $* " == *" --no-backend "* ]] || run $backend_tests timeout 300 "$(program milwright --no-default-features)"
[[ " $* " != *" --no-valgrind "* ]] || exit 0

# Rust's test harness keeps some memory to the end; what is lost is an error.
checked() {
    timeout 540 valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect \
        --errors-for-leak-kinds=definite,indirect --error-exitcode=99 "$program" --test-threads=1 "$@"
}
run $tests checked
# And it does find something: objects that are never freed.
build -DSEED_LEAK
if checked predictions_compute >"$out/leak" 2>&1; then
    echo "valgrind did not find the leak that was put there" >&2
    exit 1
fi
grep -q 'definitely lost' "$out/leak" || { tail "$out/leak" >&2; exit 1; }
echo "valgrind finds no leak, and finds the one that is put there"
build
