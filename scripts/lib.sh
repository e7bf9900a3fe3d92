# shellcheck shell=bash
# Shared by the scripts beside it; to be sourced, not run. It prints only to stderr, so that a script that
# answers on stdout (`scripts/image --list`) can use it. It knows nothing of cargo or of what is tested.

# Per user, because /tmp is shared: another user's directory under this name would choose where our log goes.
STATE_DIR="${TMPDIR:-/tmp}/skync-test-$UID"
# shellcheck disable=SC2034  # for the scripts that source this
CACHE_DIR="${XDG_CACHE_HOME:-$HOME/.cache}/skync-test"

# A cold dockerd takes about 2 s here; past a minute it is stuck, not slow.
DOCKERD_START_S_MAX=60

say() { printf '%s\n' "$*" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

need_root_or_sudo() {
  ((EUID == 0)) || have sudo ||
    die "$1 needs root, and there is no sudo; run this as root or install it yourself"
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

make_state_dir() {
  mkdir -p "$STATE_DIR"
  [[ -O $STATE_DIR && ! -L $STATE_DIR ]] || die "\`$STATE_DIR\` belongs to another user; set TMPDIR"
}

# --- packages ---

apt_installed() {
  # No pipe into `grep -q`: it would close early, and pipefail would make a success look like a failure.
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null || true) == installed ]]
}

apt_updated=no
# Set to `no` by a script's --no-install.
INSTALL=yes

apt_update_once() {
  [[ $apt_updated == no ]] || return 0
  # A broken third-party source must not stop us: whether our packages are found is decided by the install.
  as_root apt-get -qq -o DPkg::Lock::Timeout=120 update >&2 || warn "apt-get update had errors; going on"
  apt_updated=yes
}

# Installs those of the named packages that are missing. Touches neither the network nor root when there are none.
apt_install() {
  local missing=() package
  for package in "$@"; do
    apt_installed "$package" || missing+=("$package")
  done
  ((${#missing[@]} > 0)) || return 0

  [[ $INSTALL == yes ]] || die "missing: ${missing[*]}; install them, or run this without --no-install"
  have apt-get || die "missing: ${missing[*]}; only apt is known here, so install them by other means"
  need_root_or_sudo "installing ${missing[*]}"
  say "installing ${missing[*]}"
  apt_update_once
  as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l \
    apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
    install "${missing[@]}" </dev/null >&2 ||
    die "apt could not install ${missing[*]}"
}

# What a machine with nothing but Rust lacks to link a program: a C compiler with libc's headers.
install_build_tools() {
  # Not by package: clang, or a compiler from elsewhere, is as good.
  have cc || apt_install gcc libc6-dev
  have pkg-config || apt_install pkg-config
  have git || apt_install git
}

# rustup writes its directory into the profile of the next login, not into this shell.
find_cargo() {
  have cargo || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  have cargo || die "no cargo; install Rust by https://rustup.rs, then run this again"
}

# --- container engine ---

# `docker version` instead of `docker info`: some clients exit 0 from the latter with no engine behind them.
engine_answers() {
  have docker && timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

install_dockerd() {
  local packages=(docker.io)
  if ! have docker; then
    # From Debian 13 on the client is a package of its own, and only recommended. A fresh machine has no lists to ask.
    apt_update_once
    if apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi
  fi
  have iptables || packages+=(iptables)
  apt_install "${packages[@]}"
}

# The pid of the dockerd that an earlier call of ours left running, or nothing.
our_dockerd() {
  local pid
  pid=$(cat "$STATE_DIR/dockerd.pid" 2>/dev/null) || return 0
  # The file outlives a reboot and pids are reused: trust it only for a process of that name.
  if [[ $(cat "/proc/$pid/comm" 2>/dev/null) == dockerd ]]; then echo "$pid"; fi
}

# Starts dockerd with the given flags and waits until it answers (0), gives up or is too slow (1).
try_dockerd() {
  local log=$STATE_DIR/dockerd.log launcher deadline fd sudo=()
  ((EUID == 0)) || sudo=(sudo)
  printf '=== dockerd %s\n' "$*" >>"$log"
  # Its own session and no descriptor of ours: CI waits for end-of-file on every pipe that it gave us, and a Ctrl-C
  # here must not take the engine away from another terminal. The group lets a user who came by sudo reach the socket.
  (
    cd /
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      if ((fd > 2)); then exec {fd}>&-; fi
    done
    exec "${sudo[@]}" setsid dockerd --group "$(id -gn)" "$@"
  ) </dev/null >>"$log" 2>&1 &
  launcher=$!
  deadline=$((SECONDS + DOCKERD_START_S_MAX))
  until engine_answers; do
    if ! kill -0 "$launcher" 2>/dev/null || ((SECONDS >= deadline)); then
      as_root kill "$launcher" 2>/dev/null || true
      wait "$launcher" 2>/dev/null || true
      return 1
    fi
    sleep 0.2
  done
  # Not $launcher: with sudo that is a parent of the engine.
  cat /run/docker.pid >"$STATE_DIR/dockerd.pid" 2>/dev/null || true
  disown "$launcher" 2>/dev/null || true
}

# Removes the pid file of an engine that was killed: its number may be somebody else's by now, and then dockerd would
# not start, or would wait for a containerd that is none.
forget_dead_engine() {
  local file name
  for file in /run/docker.pid /run/docker/containerd/containerd.pid; do
    [[ -s $file ]] || continue
    # A process that was killed and not yet reaped has a name still, and no program any more.
    name=$(as_root readlink "/proc/$(cat "$file")/exe" 2>/dev/null || true)
    case ${name##*/} in
      dockerd | containerd) ;;
      *) as_root rm -f "$file" ;;
    esac
  done
}

# Makes sure that a container engine answers. What it starts keeps running after us: the next run is then quick.
ensure_dockerd() {
  engine_answers && return 0
  if [[ -n ${DOCKER_HOST:-} ]]; then
    die "no engine answers at DOCKER_HOST=$DOCKER_HOST; unset it to have one started here"
  fi

  need_root_or_sudo "starting a container engine"
  if ! { have dockerd && have docker; }; then install_dockerd; fi
  make_state_dir
  # Two scripts started together must not both start an engine.
  exec 9>"$STATE_DIR/dockerd.lock"
  flock 9
  # The engine is started in the background, where sudo could not ask for a password.
  as_root true
  if [[ -d /run/systemd/system ]]; then
    as_root systemctl start docker >/dev/null 2>&1 || true
  fi
  start_dockerd
  exec 9>&-
}

start_dockerd() {
  engine_answers && return 0
  if as_root docker version >/dev/null 2>&1; then
    die "an engine runs, but not for $(id -un); run \`sudo usermod -aG docker $(id -un)\` and log in again"
  fi

  # From the best to the poorest. overlay2 cannot lie on an overlay (a container in a container), and without
  # netfilter in the kernel only the networks `none` and `host` are left; most tests use just these.
  local attempts=('--storage-driver=overlay2' '--storage-driver=overlay2 --iptables=false --bridge=none'
    '--storage-driver=vfs' '--storage-driver=vfs --iptables=false --bridge=none') attempt flags
  # A flag that the machine's own configuration also sets is an error for dockerd.
  if [[ -s /etc/docker/daemon.json ]]; then attempts=('' "${attempts[@]}"); fi

  forget_dead_engine
  : >"$STATE_DIR/dockerd.log"
  for attempt in "${attempts[@]}"; do
    read -ra flags <<<"$attempt"
    if try_dockerd "${flags[@]}"; then
      say "started dockerd $attempt (log: $STATE_DIR/dockerd.log)"
      return 0
    fi
    warn "dockerd ${attempt:-with its own configuration} did not start"
  done
  tail -n 40 "$STATE_DIR/dockerd.log" >&2
  die "dockerd does not start here; the end of $STATE_DIR/dockerd.log is above"
}

# Ends the engine that we started, and no other.
stop_dockerd() {
  local pid deadline=$((SECONDS + 30))
  pid=$(our_dockerd)
  [[ -n $pid ]] || return 0
  as_root kill "$pid" 2>/dev/null || true
  while [[ -n $(our_dockerd) ]]; do
    ((SECONDS < deadline)) || die "dockerd ($pid) does not end; see $STATE_DIR/dockerd.log"
    sleep 0.2
  done
  rm -f "$STATE_DIR/dockerd.pid"
}
