#!/usr/bin/env bash
# Writes stubs of Apple's libraries for the linker: sdk.sh FOLDER. They hold the names in symbols/ and nothing else, so
# that whatever else a change imports fails the link. What Objective-C looks up at run time is not the linker's business.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$1

# stub FILE INSTALL-NAME [SYMBOLS]
stub() {
    mkdir -p "$(dirname "$out/$1")"
    local names=
    [ -z "${3:-}" ] || names=$(grep -v '^#' "$here/symbols/$3.txt" | paste -sd, | sed 's/,/, /g')
    cat >"$out/$1" <<TBD
--- !tapi-tbd
tbd-version: 4
targets: [ x86_64-macos, arm64-macos ]
install-name: '$2'
exports:
  - targets: [ x86_64-macos, arm64-macos ]
    symbols: [ $names ]
...
TBD
}

framework() { stub "System/Library/Frameworks/$1.framework/$1.tbd" "/System/Library/Frameworks/$1.framework/Versions/$2/$1" "${3:-}"; }

for name in System c m; do stub "usr/lib/lib$name.tbd" /usr/lib/libSystem.B.dylib libSystem; done
stub usr/lib/libobjc.tbd /usr/lib/libobjc.A.dylib libobjc
stub usr/lib/libiconv.tbd /usr/lib/libiconv.2.dylib
framework CoreFoundation A
framework CoreML A CoreML
framework CoreVideo A CoreVideo
framework Foundation C
