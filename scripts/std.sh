#!/usr/bin/env bash
# Builds Rust's standard library for a target that rustup's servers are not asked for: std.sh TARGET FOLDER [SANITIZER].
#
# FOLDER becomes a sysroot for `--sysroot`. The sources are those of the compiler's own version: rustup's (component
# rust-src) if they are installed, else those that Debian ships and signs. With a sanitizer (thread), the library is
# instrumented for it: what one thread does in it is seen to happen before what another does.
set -euo pipefail

target=$1 out=$(realpath -m "$2") sanitizer=${3:-}
version=$(rustc --version | cut -d' ' -f2)
here=$(cd "$(dirname "$0")" && pwd)
# One copy of the sources for all targets.
sources=$(dirname "$here")/.cache/rust-src-$version
marker=$out/built-$target-$version
[ ! -e "$marker" ] || exit 0

# apt with a configuration of its own: the machine's sources are not touched, what it says of the network holds. The
# package index is checked against Debian's keyring, and the package against the index.
download() {
    local apt archive package
    archive=$("$here/apt_mirror.sh")
    apt=$(mktemp -d)
    mkdir -p "$apt"/lists/partial "$apt"/cache/archives/partial
    touch "$apt/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive trixie-backports main" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<CONF
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "-";
APT::Sandbox::User "root";
CONF
    export APT_CONFIG=$apt/apt.conf
    apt-get update -qq
    package=$(apt-cache madison rust-src | awk -v v="$version" '$3 ~ "^" v "[+~-]" { print $3; exit }')
    if [ -z "$package" ]; then
        echo "Debian has no rust-src of version $version; it has: $(apt-cache madison rust-src | awk '{ print $3 }' | xargs)" >&2
        return 1
    fi
    (cd "$apt" && apt-get download -qq "rust-src=$package")
    rm -rf "$sources.part"
    mkdir -p "$sources.part"
    dpkg -x "$apt"/rust-src_*.deb "$sources.part"
    rm -rf "$sources.part"/usr/src/rustc-*/library/vendor "$apt"
    unset APT_CONFIG
    mv "$sources.part"/usr/src/rustc-*/library "$sources"
    rm -rf "$sources.part"
}

if [ ! -d "$sources" ]; then
    rustup=$(rustc --print sysroot)/lib/rustlib/src/rust/library
    if [ -d "$rustup/std" ]; then
        sources=$rustup
    else
        download
    fi
fi

# An empty crate drags in all of std.
crate=$(mktemp -d)
trap 'rm -rf "$crate"' EXIT
mkdir "$crate/src"
printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2024"\n' >"$crate/Cargo.toml"
echo '#![no_std]' >"$crate/src/lib.rs"
(
    cd "$crate"
    env -u RUSTC_WRAPPER RUSTFLAGS="${sanitizer:+-Zsanitizer=$sanitizer}" RUSTC_BOOTSTRAP=1 __CARGO_TESTS_ONLY_SRC_ROOT="$sources" \
        cargo build --quiet --release -Zbuild-std=std,panic_abort,panic_unwind,proc_macro,test \
        --target "$target" --target-dir "$crate/target"
)
lib=$out/lib/rustlib/$target/lib
mkdir -p "$lib"
find "$crate/target/$target/release/deps" -name '*.rlib' ! -name 'libempty*' -exec cp {} "$lib/" \;
# The compiler looks for what a sanitizer needs at run time where its library is.
[ -z "$sanitizer" ] || cp "$(rustc --print target-libdir)"/librustc-*_rt.*san.a "$lib/"
rm -f "$out"/built-"$target"-*
touch "$marker"
