# shellcheck shell=bash
# The rows of scripts/bench, which sources this: what is done by skync and by its peer, in turns.
# shellcheck disable=SC2154  # `bench`, `container`, `runs`, `mutagen` and `full` are set there

copy_by_tar() {
  tar c -C "$1" . | docker exec -i "$container" tar x -C /copy
}

peer_copy() {
  docker exec "$container" mkdir /copy
  timed "$1" copy_by_tar "$2"
  docker exec "$container" rm -rf /copy
}

# peer_flush TREE: mutagen's time for files that appear in a live session.
peer_flush() {
  rm -rf "$bench/beside"
  mkdir "$bench/beside"
  start_mutagen "$bench/beside" || die "mutagen does not start"
  mv "$bench/$1" "$bench/beside/tree"
  timed "$1-mutagen" mutagen sync flush bench >/dev/null
  mv "$bench/beside/tree" "$bench/$1"
  stop_peer
}

# The first synchronisation into a new sandbox, and of files that appear in a live session. In the first the project
# is read while the container is being made; the second has all of the work in it.
first_sync() {
  local name=$1 what=$2 run
  tree "$name"
  for ((run = 0; run < runs; run++)); do
    forget_all
    phase "$name" 'sync in' "$bench/$name"
    peer_copy "$name-tar" "$bench/$name"
    if [[ $mutagen == yes ]]; then peer_flush "$name"; fi
    open_session "$bench/project"
    mv "$bench/$name" "$bench/project/tree"
    phase "$name-live" 'sync in' "$bench/project"
    mv "$bench/project/tree" "$bench/$name"
    close_session
  done
  row "first sync, $what, new sandbox" "$name" 'tar | docker exec tar' "$name-tar" 1.0
  row "first sync, $what, live session" "$name-live" 'tar | docker exec tar' "$name-tar" 1.0
  if [[ $mutagen == yes ]]; then
    row "first sync, $what, live session" "$name-live" 'mutagen sync flush' "$name-mutagen" ''
  fi
}

measure_large() { first_sync large '1,000 files / 100 MB'; }
measure_small() { first_sync small '20,000 files of 1-8 KiB'; }

measure_again() {
  nothing_changed small 20,000
  if [[ $full == yes ]]; then nothing_changed huge 100,000; fi
}

nothing_changed() {
  local name=$1 what=$2 run
  local git=(git --git-dir="$bench/$name.git" --work-tree="$bench/$name")
  tree "$name"
  "${git[@]}" -c init.defaultBranch=main init -q
  "${git[@]}" add -A
  forget_all
  open_session "$bench/$name"
  # Both sides warm: git's first look refreshes its index, and for a second after a file was written neither trusts
  # what it has recorded of it.
  "${git[@]}" status --short >/dev/null
  sleep 1.1
  phase "$name-warm" 'sync in' "$bench/$name"
  for ((run = 0; run < runs; run++)); do
    phase "$name-again" 'sync in' "$bench/$name"
    timed "$name-git" "${git[@]}" status --short >/dev/null
  done
  close_session
  row "nothing changed, $what files" "$name-again" 'git status' "$name-git" 2.0
}

measure_live() {
  local run
  echo hello >"$bench/project/file"
  open_session "$bench/project"
  for ((run = 0; run < runs * 4; run++)); do
    timed live in_project exec true
    timed live-docker docker exec "$container" true
  done
  close_session
  row 'exec true, live session' live 'docker exec true' live-docker 0.25
}

in_project() { (cd "$bench/project" && exec "$SKYNC" -q "$@"); }

# Through a pipe, as to another program: /dev/null itself takes no copy.
output_of() { "$@" | cat >/dev/null; }

measure_output() {
  local run
  open_session "$bench/project"
  for ((run = 0; run < runs; run++)); do
    timed output output_of in_project exec head -c 1G /dev/zero
    timed output-docker output_of docker exec "$container" head -c 1G /dev/zero
  done
  close_session
  # 0.8 of the throughput is 1.25 of the time.
  row 'exec head -c 1G /dev/zero | cat' output 'docker exec' output-docker 1.25
}

# first_byte KEY COMMAND...: until the first byte is here.
first_byte() {
  local key=$1 started_us
  shift
  started_us=$(now_us)
  "$@" </dev/null | {
    read -r -N 1 _
    sample_us "$key" $(($(now_us) - started_us))
    cat >/dev/null
  }
}

measure_cold() {
  local run docker_run=(docker run --rm --network none "$IMAGE")
  for ((run = 0; run < runs; run++)); do
    timed cold in_project exec true
    timed cold-docker "${docker_run[@]}" true
    first_byte cold-byte in_project exec echo hello
    first_byte cold-byte-docker "${docker_run[@]}" echo hello
  done
  row 'exec true, new container' cold 'docker run --rm' cold-docker ''
  row 'exec echo, new container, first byte' cold-byte 'docker run --rm, first byte' cold-byte-docker '2000 ms'
}

copy_by_rsync() { rsync -a "$1/" "$bench/rsync/"; }

measure_local() {
  local run name
  if ! have rsync; then
    say "skipped: rsync is not installed"
    return
  fi
  for name in large small; do
    tree "$name"
    for ((run = 0; run < runs; run++)); do
      forget_all
      phase "local-$name" 'sync in' "$bench/$name" --profile local-copy
      rm -rf "$bench/rsync"
      timed "rsync-$name" copy_by_rsync "$bench/$name"
    done
    rm -rf "$bench/rsync"
  done
  row 'directory driver, 1,000 files / 100 MB' local-large 'rsync -a' rsync-large ''
  row 'directory driver, 20,000 files' local-small 'rsync -a' rsync-small ''
}
