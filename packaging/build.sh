#!/usr/bin/env bash
# Builds the Debian package from a clone: target/deb/holdfast_VERSION_ARCH.deb
#
#   packaging/build.sh            from anywhere; Rust and a C compiler are all it needs
#
# The same commit gives the same bytes with the same compilers: times come from the commit, and paths of
# this machine are kept out of the binary. Build on the oldest system that is to run it (Debian 12): the
# package asks for the C library it was linked with.
set -euo pipefail
umask 022

readonly CARGO_DEB_VERSION=3.8.0
readonly BINARY_BYTES_MAX=20000000

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"

say() { printf '%s\n' "build: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

# The value of a key of [package] in Cargo.toml.
package() { sed -n "/^\[package\]/,/^\[/s/^$1 *= *\"\(.*\)\".*/\1/p" Cargo.toml | head -n 1; }

# What is needed, and how to come by it.

for tool in cargo rustc; do
    command -v "$tool" >/dev/null \
        || fail "$tool is not there; install Rust $(package rust-version) or later: https://rustup.rs"
done
rust=$(rustc --version | cut -d ' ' -f 2)
printf '%s\n%s\n' "$(package rust-version)" "$rust" | sort -CV \
    || fail "Rust $rust is too old, $(package rust-version) is needed; try: rustup update stable"
cc=${CC:-cc}
printf 'int main(void) { return 0; }\n' | "$cc" -x c -o /dev/null - 2>/dev/null \
    || fail "no C compiler that works ($cc), and SQLite is compiled in; try: sudo apt install gcc libc6-dev"
for tool in dpkg-deb dpkg-shlibdeps; do
    command -v "$tool" >/dev/null || fail "$tool is not there; try: sudo apt install dpkg-dev"
done

version=$(package version)
arch=$(dpkg --print-architecture)

# Times and paths of this machine stay here.

if [[ -z ${SOURCE_DATE_EPOCH:-} ]]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) \
        || fail "this is no git clone; say when the sources are from: SOURCE_DATE_EPOCH=... $0"
fi
export SOURCE_DATE_EPOCH
export CARGO_TARGET_DIR="$root/target"
unset CARGO_BUILD_TARGET
cargo_home=${CARGO_HOME:-$HOME/.cargo}
separator=$'\x1f'
export CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$root=.${separator}--remap-path-prefix=$cargo_home=cargo"
unset RUSTFLAGS

# The tool that packs. It is built without the flags above: it does not ship.

tool=target/tools/bin/cargo-deb
if [[ $("$tool" --version 2>/dev/null) != *"$CARGO_DEB_VERSION"* ]]; then
    say "cargo-deb $CARGO_DEB_VERSION is built into target/tools, once"
    env -u CARGO_ENCODED_RUSTFLAGS CARGO_TARGET_DIR="$root/target/tools/build" \
        cargo install --locked "cargo-deb@$CARGO_DEB_VERSION" --root target/tools --force
    rm -rf target/tools/build
fi

say "the binary; the profile is dist, it takes minutes"
CFLAGS="${CFLAGS:-} -ffile-prefix-map=$cargo_home=cargo" cargo build --locked --profile dist --bin holdfast
binary=target/dist/holdfast
size=$(stat -c %s "$binary")
((size <= BINARY_BYTES_MAX)) || fail "$binary has $size bytes, the limit is $BINARY_BYTES_MAX"

# What the binary says about itself.

made=target/packaging
rm -rf "$made"
mkdir -p "$made/man" "$made/completions"
"$binary" man "$made/man"
gzip -9n "$made"/man/*.1
"$binary" completions bash >"$made/completions/holdfast.bash"
"$binary" completions zsh >"$made/completions/_holdfast"
"$binary" completions fish >"$made/completions/holdfast.fish"

# What is new, in the form that Debian's tools read: the section of this version in CHANGELOG.md, or the
# unreleased one.
{
    printf 'holdfast (%s) stable; urgency=medium\n' "$version"
    awk -v version="$version" '
        # Prints what was gathered, in lines that Debian thinks are not too long.
        function flush(  words, count, i, line) {
            count = split(gathered, words, " ")
            gathered = ""
            line = "  *"
            for (i = 1; i <= count; i++) {
                if (length(line " " words[i]) > 76) { print line; line = "   " }
                line = line " " words[i]
            }
            if (count) print line
        }
        /^## / { flush(); if (ours) exit; ours = $2 == version || $2 == "[" version "]" || $2 == "Unreleased"; next }
        !ours { next }
        /^### / { flush(); sub(/^### /, ""); print "\n  [ " $0 " ]"; next }
        /^- / { flush(); sub(/^- /, "") }
        { gathered = gathered " " $0 }
        END { flush() }
    ' CHANGELOG.md
    printf '\n -- %s  %s\n' "$(sed -n 's/^maintainer *= *"\(.*\)"/\1/p' Cargo.toml)" \
        "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$made/changelog.gz"

# The package.

deb="target/deb/holdfast_${version}_${arch}.deb"
mkdir -p target/deb
rm -f "$deb"
"$tool" --no-build --locked --profile dist --deb-version "$version" --output "$made/packed.deb" >/dev/null
# What cargo-deb leaves out: the sums by which "dpkg --verify holdfast" finds files that were changed.
tree="$made/tree"
dpkg-deb -R "$made/packed.deb" "$tree"
(cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group -Zxz -b "$tree" "$deb" >/dev/null
rm -rf "$tree" "$made/packed.deb"

say "binary   $binary, $size bytes"
say "package  $root/$deb, $(stat -c %s "$deb") bytes"
say "next     sudo apt install $root/$deb"
