#!/usr/bin/env bash
# Builds the stand-in into the folder that is given: libCoreML.so, and linker scripts that put it before GNUstep.
# STANDIN_INSTRUMENT has flags for a sanitizer whose run-time library is in the program that loads it.
set -euo pipefail
out=$1
cd "$(dirname "$0")"
mkdir -p "$out"
lib=/usr/lib/$(gcc -print-multiarch)
base=$(readlink -f /usr/lib/libgnustep-base.so)
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
for file in shim.m CoreML.m CoreVideo.m; do
    gcc -std=gnu99 -c -fPIC -fobjc-exceptions -fconstant-string-class=NSConstantString -D_NATIVE_OBJC_EXCEPTIONS \
        -DGNUSTEP -DGNUSTEP_BASE_LIBRARY=1 -I/usr/include/GNUstep -gdwarf-4 -O1 -Wall -Werror -Wno-unknown-pragmas \
        ${STANDIN_CFLAGS:-} ${STANDIN_INSTRUMENT:-} -o "$objects/$file.o" "$file"
done
gcc -c -fPIC -O1 -o "$objects/object_getClass.o" object_getClass.c
gcc -shared -Wl,-soname,libCoreML.so -o "$out/libCoreML.so" "$objects"/*.o \
    "$lib/libBlocksRuntime.so.0" "$base" "$lib/libobjc.so.4" -lm -ldl -lpthread ${STANDIN_CFLAGS:-}
# libBlocksRuntime before GNUstep, whose own _Block_copy leaves blocks on the stack.
echo "INPUT ( $out/libCoreML.so $lib/libobjc.so.4 )" >"$out/libobjc.so"
echo "INPUT ( $out/libCoreML.so $lib/libBlocksRuntime.so.0 $base )" >"$out/libgnustep-base.so"
