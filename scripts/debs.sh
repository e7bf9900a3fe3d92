# shellcheck shell=bash
# Debian packages as archives of files, for what is put together from them without installing anything: the test
# images and the cross toolchain. To be sourced after lib.sh. Root is not needed and apt's own state is not touched.

# Always Debian 12, whatever runs here: the same sandbox and the same toolchain on every machine.
DEBS_SUITE=bookworm
DEBS_MIRROR=${SKYNC_DEBIAN_MIRROR:-http://deb.debian.org/debian}
DEBS_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# fetch_debs WORK TARGET PACKAGE[:ARCHITECTURE]...
# Downloads packages into TARGET. WORK holds the package lists, read once for all calls that name it.
fetch_debs() {
  local apt=$1/apt target=$2
  shift 2
  [[ -d $apt ]] || read_package_lists "$apt" "$@"
  mkdir -p "$target"
  (cd "$target" && apt-get -qq -c "$apt/apt.conf" download "$@" >&2)
}

read_package_lists() {
  local apt=$1
  shift
  [[ -e $DEBS_KEYRING ]] || apt_install debian-archive-keyring
  mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
  : >"$apt/status"
  printf 'deb [signed-by=%s] %s main\n' "$DEBS_KEYRING" "$DEBS_MIRROR $DEBS_SUITE" \
    "$DEBS_KEYRING" "$DEBS_MIRROR-security $DEBS_SUITE-security" >"$apt/sources.list"
  # The machine's own settings hold for the rest (a proxy, say), but not its hooks: those clean up in its own cache.
  cat >"$apt/apt.conf" <<CONF
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Acquire::Languages "none";
APT::Sandbox::User "root";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
  # The lists of a second architecture are 9 MB more: only for who asks for one.
  if [[ " $* " == *:* ]]; then echo 'APT::Architectures "amd64,arm64";' >>"$apt/apt.conf"; fi
  apt-get -qq -c "$apt/apt.conf" update >&2
}

# unpack_debs DIR ROOT
# Unpacks every package in DIR over ROOT, without what only people read. Owners are dropped.
unpack_debs() {
  local deb
  for deb in "$1"/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" |
      tar -x -p --no-same-owner --keep-directory-symlink -C "$2" --exclude='./usr/share/doc/*' \
        --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' --exclude='./usr/share/info/*' \
        --exclude='./usr/share/lintian/*' --exclude='./usr/share/initramfs-tools'
  done
}
