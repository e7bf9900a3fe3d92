# shellcheck shell=bash
# The rows of scripts/bench about `skync mount`; it sources this. The tables are made by bench-mount.py, in which skync,
# sshfs and the files themselves take turns.
# shellcheck disable=SC2154  # `bench`, `runs`, `quick` and `SKYNC` are set there

# One way, in milliseconds.
MOUNT_DELAY_MS=10

measure_mount() {
  local big_mib=1024
  if ! have sshfs || [[ ! -x /usr/sbin/sshd ]]; then apt_install sshfs openssh-server; fi
  if [[ $quick == yes ]]; then big_mib=256; fi
  mount_bench docker "$big_mib" 0
  start_cloud e2b "$MOUNT_DELAY_MS"
  "$SKYNC" -q profile add cloud --force --driver e2b --root "$CLOUD_ROOT"
  SKYNC_PROFILE=cloud mount_bench e2b 128 "$MOUNT_DELAY_MS"
  stop_cloud
}

# mount_bench WHAT BIG_MIB DELAY_MS
mount_bench() {
  local project=$bench/mount-$1
  projects+=("$project")
  mkdir "$project"
  python3 scripts/bench-mount.py "$1" --place "$bench/at-$1" --tree "$project" --make --big-mib "$2"
  # A writable mount mirrors; what is written in the measurements is not to be copied here.
  printf 'made/\nwritten\n' >"$project/.skyncignore"
  # Another mount keeps the sandbox.
  (cd "$project" && "$SKYNC" -q mount --at "$bench/hold-$1" </dev/null >/dev/null) || die "\`skync mount\` failed"
  python3 scripts/bench-mount.py "$1" --place "$bench/at-$1" --skync "$SKYNC" --project "$project" --tree "$project" \
    --runs "$runs" --big-mib "$2" --delay-ms "$3" </dev/null || missed=$((missed + 1))
  (cd "$project" && "$SKYNC" -q unmount --all >/dev/null) || die "\`skync unmount\` failed"
  rm -rf "$project"
}
