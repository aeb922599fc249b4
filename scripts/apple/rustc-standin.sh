#!/usr/bin/env bash
# RUSTC_WRAPPER of scripts/apple/standin.sh. objc2-core-ml links a framework on every system, which rustc refuses off
# Apple. A copy is compiled whose attribute has the condition that objc2-foundation gives its own; nothing else differs,
# and Cargo.lock stays as it is.
set -euo pipefail
rustc=$1
shift
args=("$@")
for i in "${!args[@]}"; do
    case ${args[i]} in
        */objc2-core-ml-*/src/lib.rs)
            source=${args[i]%/lib.rs}
            copy=$STANDIN/$(basename "${source%/src}")
            if [ ! -e "$copy/src" ]; then
                rm -rf "$copy.part"
                mkdir -p "$copy.part"
                cp -r "$source" "$copy.part/src"
                line='#[link(name = "CoreML", kind = "framework")]'
                grep -qxF "$line" "$copy.part/src/generated/mod.rs" || { echo "no $line in objc2-core-ml" >&2; exit 1; }
                sed -i 's/^#\[link(name = "CoreML", kind = "framework")\]$/#[cfg_attr(target_vendor = "apple", link(name = "CoreML", kind = "framework"))]/' \
                    "$copy.part/src/generated/mod.rs"
                mv "$copy.part" "$copy"
            fi
            args[i]=$copy/src/lib.rs
            ;;
    esac
done
exec "$rustc" "${args[@]}"
