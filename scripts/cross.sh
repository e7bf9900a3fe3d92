# shellcheck shell=bash
# The toolchain for machines other than this one: Debian's rustc with the source of its std, and zig as a C compiler.
# To be sourced after lib.sh and debs.sh; `work` is a directory for what is downloaded.

# Where it is unpacked: a compiler with the standard libraries that rustup did not bring.
CROSS=$CACHE_DIR/rust-cross
ZIG=$CACHE_DIR/zig
# A zig that cargo-zigbuild does not know yet fails in odd ways: the two are chosen together.
ZIG_PACKAGES=(ziglang==0.17.1 'cargo-zigbuild==0.24.*')

has_debian_source() { [[ -x $CROSS/rustc && -d $CROSS/root/usr/lib/rustlib/src/rust/library ]]; }
has_zig() { [[ -x $ZIG/bin/cargo-zigbuild ]]; }

install_zig() {
  python3 -m pip --version >/dev/null 2>&1 || apt_install python3 python3-pip
  say "installing ${ZIG_PACKAGES[*]} into $ZIG"
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --upgrade --target "$ZIG" "${ZIG_PACKAGES[@]}" >&2
}

# Debian's rustc and its std for both architectures, unpacked rather than installed: the packages would put a second
# rustc on PATH and refuse to live beside a packaged rustup.
install_debian_rust() {
  # shellcheck disable=SC2154  # of whoever sources this
  local debs=$work/debs package
  say "unpacking Debian's Rust into $CROSS"
  fetch_debs "$work" "$debs" rustc-web:amd64 libstd-rust-web-dev:amd64 libstd-rust-web-dev:arm64 \
    libedit2:amd64 libbsd0:amd64 libmd0:amd64 libxml2:amd64 libicu72:amd64 libz3-4:amd64
  # The names of these two hold a version, which moves with Debian's updates.
  package=$(dependency "$debs"/libstd-rust-web-dev_*_amd64.deb libstd-rust-web-)
  fetch_debs "$work" "$debs" "$package:amd64"
  package=$(dependency "$debs/$package"_*_amd64.deb libllvm)
  fetch_debs "$work" "$debs" "$package:amd64"

  mkdir -p "$CROSS.partial/root"
  unpack_debs "$debs" "$CROSS.partial/root"
  cat >"$CROSS.partial/rustc" <<'WRAPPER'
#!/bin/sh
root=$(dirname "$0")/root/usr
LD_LIBRARY_PATH=$root/lib/x86_64-linux-gnu exec "$root/bin/rustc" "$@"
WRAPPER
  chmod 0755 "$CROSS.partial/rustc"
  # Only a whole toolchain gets the name that later runs trust.
  rm -rf "$CROSS"
  mv "$CROSS.partial" "$CROSS"
}

# The package that $1 depends on and whose name begins with $2.
dependency() {
  dpkg-deb -f "$1" Depends | tr , '\n' | sed -n "s/^ *\($2[^ (]*\).*/\1/p" | head -n 1
}

install_debian_source() {
  fetch_debs "$work" "$work/source" rust-web-src:all
  # Of 340 MB, what build-std reads.
  dpkg-deb --fsys-tarfile "$work"/source/rust-web-src_*.deb |
    tar -x --no-same-owner --wildcards -C "$CROSS/root" './usr/src/*/library' './usr/lib/rustlib/src'
}
