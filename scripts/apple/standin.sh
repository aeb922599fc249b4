#!/usr/bin/env bash
# Cargo with the bridge built on Linux, against the stand-in for Core ML: `scripts/apple/standin.sh test -p milwright-apple`.
#
# Needs: gcc gobjc libgnustep-base-dev libblocksruntime-dev. BRIDGE is the repository to build, this one if unset.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "${BRIDGE:-$here/../..}"
export STANDIN=${STANDIN:-$here/../../.cache/apple/standin}
mkdir -p "$STANDIN"
STANDIN=$(realpath "$STANDIN")
if [ -z "$(find "$STANDIN/libCoreML.so" -newer crates/apple/standin/CoreML.m -newer crates/apple/standin/model.inc \
    -newer crates/apple/standin/shim.m -newer crates/apple/standin/CoreVideo.m 2>/dev/null)" ]; then
    crates/apple/standin/build.sh "$STANDIN"
fi
# The condition of GNUstep, without the Cargo feature of that name: that one wants classes as symbols, too, which GCC
# does not export.
export RUSTFLAGS="--cfg milwright_standin --cfg feature=\"gnustep-1-7\" --cfg feature=\"relax-sign-encoding\" \
-L native=$STANDIN -C link-arg=-Wl,-rpath,$STANDIN -C link-arg=-Wl,--no-as-needed -C link-arg=-lCoreML ${STANDIN_RUSTFLAGS:-}"
export RUSTC_WRAPPER=$here/rustc-standin.sh RUST_TEST_THREADS=1
export CARGO_TARGET_DIR=${STANDIN_TARGET:-target/standin}
exec cargo "$@"
