# shellcheck shell=bash
# The rows of scripts/bench about the mirror, `skync up -d`; it sources this. What has to look at the other side is in
# bench-mirror.py.
# shellcheck disable=SC2154  # `bench`, `runs`, `quick`, `sudo` and `IMAGE` are set there

# shellcheck disable=SC2034  # scripts/bench uses it
MIRROR_ROWS=(edits switch giant burst memory idle)
MIB=1048576

helper() { "${sudo[@]}" python3 scripts/bench-mirror.py "$@" </dev/null; }
helper_in_user() { python3 scripts/bench-mirror.py "$@"; }

# keep PREFIX COMMAND...: what the helper answers, one more sample each.
keep() { keep_answers "$1" helper "${@:2}"; }

# The same of any helper. One that fails has said why.
keep_answers() {
  local prefix=$1 answers key value
  shift
  answers=$("$@") || die "\`$1 $2\` failed"
  while read -r key value; do
    if [[ -n $key ]]; then sample "$prefix-$key" "$value"; fi
  done <<<"$answers"
}

# --- sessions ---

# mirror_up DIRECTORY: a mirror of it, first synchronisation done; sets `session`, `keeper`, `agent` (pids) and `side`,
# the sandbox's project as it is seen from here.
mirror_up() {
  local project=$1 key value name=''
  projects+=("$project")
  (cd "$project" && "$SKYNC" -q up -d </dev/null && "$SKYNC" -q flush) || die "\`skync up -d\` failed"
  while read -r key value; do
    case $key in
      session) session=$value ;;
      keeper) keeper=$value ;;
      sandbox) name=$value ;;
    esac
  done < <("$SKYNC" status --json | helper_in_user session "$(realpath "$project")")
  [[ -n $name ]] || die "\`skync status --json\` does not have the session of \`$project\`"
  agent=$(docker inspect -f '{{.State.Pid}}' "$name")
  side=/proc/$agent/root/project
}

mirror_down() {
  (cd "$1" && "$SKYNC" -q down) || die "\`skync down\` failed"
}

mirror_processes() { echo "session=$session" "keeper=$keeper" "agent=$agent"; }

at_rest() {
  # shellcheck disable=SC2046
  helper settled $(mirror_processes)
}

# wire KEY COMMAND...: the bytes that the agent's sockets carry while a command runs, which is not to be timed meanwhile.
# Without strace there are none.
wire() {
  local key=$1 tracer deadline=$((SECONDS + 10))
  shift
  if [[ $strace == no ]]; then
    "$@"
    return
  fi
  # `status` of its threads says when it is attached: before that it would miss the beginning.
  "${sudo[@]}" strace -f -y -s 0 -o "$bench/trace" -p "$agent" \
    -e trace=read,write,readv,writev,sendto,recvfrom,sendmsg,recvmsg 2>"$bench/strace.log" &
  tracer=$!
  until grep -q 'TracerPid:[[:space:]]*[1-9]' "/proc/$agent/status"; do
    if ((SECONDS > deadline)); then
      cat "$bench/strace.log" >&2
      die "strace does not attach"
    fi
    sleep 0.1
  done
  "$@"
  at_rest
  "${sudo[@]}" kill -INT "$(tracer_of "$agent")"
  wait "$tracer" || true
  keep "$key" wire "$bench/trace"
}

tracer_of() { awk '/^TracerPid:/ { print $2 }' "/proc/$1/status"; }

# --- peers ---

# Each of them keeps a copy of a tree of its own, between two directories of the same tmpfs.
prepare_peers() {
  unison=no lsyncd=no rsync=no strace=no
  if peer_package rsync; then rsync=yes; fi
  if peer_package strace; then strace=yes; fi
  if peer_package lsyncd; then lsyncd=yes; fi
  if peer_package unison; then
    unison=watch
    if ! have unison-fsmonitor; then
      say "there is no unison-fsmonitor here (Debian 12 has none), so \`unison -repeat watch\` is not to be had:"
      say "  \`unison -repeat 1\` is measured instead, which looks at the whole tree every second"
      unison=1
    fi
  fi
}

peer_package() {
  have "$1" || (apt_install "$1") || {
    say "skipped: $1 cannot be installed"
    return 1
  }
}

# Mutagen is in no registry of packages: it is measured where it is on PATH, its agents beside it.
prepare_mutagen() {
  if ! have mutagen; then
    say "skipped: mutagen is not on PATH"
    return
  fi
  export MUTAGEN_DATA_DIRECTORY=$bench/mutagen
  mutagen_copy=/proc/$(docker inspect -f '{{.State.Pid}}' "$container")/root/mutagen
  # It puts its agent into a container once, which is not what is measured.
  mkdir "$bench/mutagen-first"
  if mutagen daemon start >&2 && start_mutagen "$bench/mutagen-first"; then
    mutagen=yes
  else
    say "skipped: this mutagen does not work"
  fi
  stop_peer
}

# start_unison DIRECTORY: keeps it and another one, `other`, the same.
start_unison() {
  other=$1.other
  mkdir -p "$other" "$bench/unison"
  UNISON=$bench/unison unison "$1" "$other" -ui text -batch -auto -confirmbigdel=false -repeat "$unison" \
    </dev/null >"$bench/unison.log" 2>&1 &
  peer=$!
}

start_lsyncd() {
  other=$1.other
  mkdir -p "$other"
  # Its smallest delay: none. And rsync must not go by size and time: of two edits within a second it would take the
  # second for the first, and never carry it over.
  cat >"$bench/lsyncd.lua" <<LUA
settings { nodaemon = true, insist = true }
sync { default.rsync, source = "$1", target = "$other", delay = 0, rsync = { archive = true, ignore_times = true } }
LUA
  lsyncd "$bench/lsyncd.lua" </dev/null >"$bench/lsyncd.log" 2>&1 &
  peer=$!
}

# The same with a container, as skync's mirror is one.
start_mutagen() {
  other=$mutagen_copy
  peer=mutagen
  {
    mutagen sync create --no-global-configuration --name bench "$1" "docker://$container/mutagen" &&
      mutagen sync flush bench
  } >"$bench/mutagen.log" 2>&1 || {
    tail -n 3 "$bench/mutagen.log" >&2
    return 1
  }
}

stop_peer() {
  [[ -n ${peer:-} ]] || return 0
  if [[ $peer == mutagen ]]; then
    mutagen sync terminate bench >/dev/null 2>&1 || true
    docker exec "$container" rm -rf /mutagen || true
    peer=''
    return
  fi
  kill "$peer" 2>/dev/null || true
  wait "$peer" 2>/dev/null || true
  peer=''
}

# --- tables ---

# figure WHAT KEY UNIT TARGET [PEER PEER_KEY]: as `row`, for what is no time, or has no peer. A target is for skync alone.
figure() {
  local what=$1 unit=$3 target=$4 beside=${5:--} ours theirs=- ratio=- verdict=-
  ours=$(median "$2")
  if [[ -n ${6:-} ]]; then
    theirs=$(median "$6")
    ratio=$(awk -v a="$ours" -v b="$theirs" 'BEGIN { if (b > 0) printf "%.2f", a / b; else print "-" }')
    theirs=$(in_unit "$theirs" "$unit")
  fi
  if [[ -n $target ]]; then verdict=$(judge "$ours" "$target"); fi
  if [[ $verdict == MISSED ]]; then missed=$((missed + 1)); fi
  if [[ -n $target ]]; then target="<= $(in_unit "$target" "$unit")"; else target=-; fi
  table+=("$what"$'\t'"$(in_unit "$ours" "$unit")"$'\t'"$beside"$'\t'"$theirs"$'\t'"$ratio"$'\t'"$target"$'\t'"$verdict")
}

in_unit() {
  case $2 in
    ms) ms "$1" ;;
    KiB) awk -v bytes="$1" 'BEGIN { printf "%.1f KiB", bytes / 1024 }' ;;
    MiB) awk -v bytes="$1" -v mib=$MIB 'BEGIN { printf "%.2f MiB", bytes / mib }' ;;
    requests) awk -v is="$1" 'BEGIN { printf "%.1f", is }' ;;
    *) awk -v is="$1" -v unit="$2" 'BEGIN { printf "%.0f %s", is, unit }' ;;
  esac
}

# --- rows ---

# Both ways in one session, at each size; the peers at one of them.
measure_edits() {
  local sizes=(100 10000 100000) count=200 size
  if [[ $quick == yes ]]; then
    sizes=(100 10000)
    count=50
  fi
  for size in "${sizes[@]}"; do
    edits_at "$size" "$count"
  done
}

edits_at() {
  local size=$1 count=$2 tree=$bench/edits$1 what run name
  what=$(sed ':a; s/\([0-9]\)\([0-9]\{3\}\)\($\|,\)/\1,\2\3/; ta' <<<"$size")
  helper_in_user make-tree "$tree" "$size"
  mirror_up "$tree"
  at_rest
  for ((run = 0; run < runs; run++)); do
    keep "edits$size-in" edits "$tree" "$side" --count "$size" --edits "$count" --seed "$run" --label "$what files, to the sandbox"
    keep "edits$size-out" edits "$side" "$tree" --count "$size" --edits "$count" --seed "1$run" --label "$what files, to the host"
  done
  helper same "$tree" "$side"
  mirror_down "$tree"
  local beside=- key=''
  if ((size == 10000)); then
    peer_edits "$tree" "$size"
    if [[ $unison != no ]]; then beside=$(label_of unison) key=edits-unison-median; fi
  fi
  figure "edit to sandbox, $what files, median" "edits$size-in-median" ms 10 "$beside" $key
  figure "edit to sandbox, $what files, p99" "edits$size-in-p99" ms 50 "$beside" ${key:+edits-unison-p99}
  figure "edit to host, $what files, median" "edits$size-out-median" ms 10 "$beside" $key
  figure "edit to host, $what files, p99" "edits$size-out-p99" ms 50 "$beside" ${key:+edits-unison-p99}
  for name in lsyncd mutagen; do
    if ((size != 10000)) || [[ ${!name} == no ]]; then continue; fi
    beside=$(label_of "$name")
    figure "edit to sandbox, $what files, median" "edits$size-in-median" ms 10 "$beside" "edits-$name-median"
    figure "edit to sandbox, $what files, p99" "edits$size-in-p99" ms 50 "$beside" "edits-$name-p99"
  done
  rm -rf "$tree" "$tree.other"
}

# peer_edits TREE COUNT: fewer of them, as each takes a second or so.
peer_edits() {
  local run name edits
  for name in unison lsyncd mutagen; do
    if [[ ${!name} == no ]]; then continue; fi
    edits=10
    # On Linux it looks every ten seconds, unless it is told otherwise.
    if [[ $name == mutagen ]]; then edits=3; fi
    "start_$name" "$1"
    wait_for_copy "$1"
    for ((run = 0; run < runs; run++)); do
      keep "edits-$name" edits "$1" "$other" --count "$2" --edits "$edits" --seed "2$run" --label "$name"
    done
    stop_peer
    rm -rf "$1.other"
  done
}

label_of() {
  case $1 in
    unison) echo "unison -repeat $unison" ;;
    lsyncd) echo 'lsyncd, delay 0' ;;
    *) echo "$1" ;;
  esac
}

wait_for_copy() {
  local deadline=$((SECONDS + 120)) want
  want=$(find "$1" -type f | wc -l)
  until (($("${sudo[@]}" find "$other" -type f ! -name '.unison*' | wc -l) >= want)); do
    ((SECONDS < deadline)) || die "the peer does not copy its tree: $(tail -n 3 "$bench"/{unison,lsyncd,mutagen}.log 2>/dev/null)"
    sleep 0.2
  done
  # It may still be recording it.
  sleep 2
}

measure_switch() {
  local tree=$bench/repository run branch key
  helper_in_user make-repository "$tree" 5000
  mirror_up "$tree"
  at_rest
  for ((run = 0; run < runs * 2; run++)); do
    # There and back; what the other side gets is not there yet either way.
    branch=$(branch_of "$run")
    keep switch-in switch "$tree" "$side" --count 5000 --branch "$branch"
    at_rest
  done
  for ((run = 0; run < runs * 2; run++)); do
    keep switch-out switch "$side" "$tree" --count 5000 --branch "$(branch_of "$run")"
    at_rest
  done
  helper same "$tree" "$side"
  wire switch-wire helper switch "$tree" "$side" --count 5000 --branch other >/dev/null
  mirror_down "$tree"
  # The 200 files of the branch, each twice as large as on `main`, and git's index.
  sample switch-content $((200 * 2048 + $(stat -c %s "$tree/.git/index")))
  for key in unison lsyncd mutagen; do
    if [[ ${!key} == no ]]; then continue; fi
    git -c safe.directory='*' -C "$tree" checkout -q main
    "start_$key" "$tree"
    wait_for_copy "$tree"
    for ((run = 0; run < runs; run++)); do
      keep "switch-$key" switch "$tree" "$other" --count 5000 --branch "$(branch_of "$run")"
    done
    stop_peer
    rm -rf "$tree.other"
    figure '200-file branch switch, to sandbox' switch-in-ms ms '' "$(label_of "$key")" "switch-$key-ms"
  done
  figure '200-file branch switch, to sandbox' switch-in-ms ms '' 'git checkout alone' switch-in-git
  figure '200-file branch switch, to host' switch-out-ms ms '' 'git checkout alone' switch-out-git
  if [[ $strace == yes ]]; then
    figure '200-file branch switch, bytes on the wire' switch-wire-both MiB '' 'the files and the index' switch-content
  fi
  rm -rf "$tree"
}

branch_of() { if (($1 % 2 == 0)); then echo other; else echo main; fi; }

measure_giant() {
  local tree=$bench/giant run
  mkdir -p "$tree"
  head -c 1G /dev/urandom >"$tree/file"
  if [[ $rsync == yes ]]; then cp -a "$tree/file" "$bench/giant.copy"; fi
  mirror_up "$tree"
  at_rest
  keep giant-idle memory "session=$session" "agent=$agent"
  for ((run = 0; run < runs; run++)); do
    keep giant-reset memory --reset "session=$session" "agent=$agent"
    keep giant giant "$tree" "$side" file
    at_rest
    keep giant-after memory "session=$session" "agent=$agent"
    rise giant session
    rise giant agent
    cmp "$tree/file" "$side/file" || die "the large file is not the same on both sides"
    if [[ $rsync == yes ]]; then
      timed giant-rsync-ms rsync --inplace -a --no-whole-file --stats "$tree/file" "$bench/giant.copy" >"$bench/rsync.log"
      sample giant-rsync-wire "$(awk '/^Total bytes (sent|received):/ { gsub(",", "", $4); sum += $4 } END { print sum }' "$bench/rsync.log")"
    fi
  done
  wire giant-wire helper giant "$tree" "$side" file >/dev/null
  mirror_down "$tree"
  local beside=- key='' wire_key=''
  if [[ $rsync == yes ]]; then beside='rsync --no-whole-file' key=giant-rsync-ms wire_key=giant-rsync-wire; fi
  figure '1 MiB changed in 1 GiB, time' giant-ms ms '' "$beside" $key
  if [[ $strace == yes ]]; then
    figure '1 MiB changed in 1 GiB, bytes on the wire' giant-wire-both MiB $((3 * MIB)) "$beside" $wire_key
  fi
  figure '1 MiB changed in 1 GiB, session above idle' giant-session-rise MiB $((64 * MIB))
  figure '1 MiB changed in 1 GiB, agent above idle' giant-agent-rise MiB $((64 * MIB))
  rm -rf "$tree" "$bench/giant.copy"
}

# rise KEY PROCESS: the last sample of its peak, above what was resident before the first change.
rise() {
  local before after
  before=$(head -n 1 "$bench/samples/$1-idle-$2-rss")
  after=$(tail -n 1 "$bench/samples/$1-after-$2-peak")
  sample "$1-$2-rise" $(((after - before) * 1024))
}

# What a package manager or a code generator does in the sandbox.
measure_burst() {
  local tree=$bench/burst run
  # A root that is emptied halts the mirror.
  mkdir -p "$tree"
  echo stays >"$tree/file"
  mirror_up "$tree"
  for ((run = 0; run < runs; run++)); do
    keep burst-out burst "$side" "$tree" --count 20000 --seed "$run"
    at_rest
    helper same "$tree" "$side"
    rm -rf "$bench/burst.copy"
    mkdir "$bench/burst.copy"
    timed burst-tar burst_by_tar "$side/burst$run"
    keep burst-in burst "$tree" "$side" --count 20000 --seed "1$run"
    at_rest
    helper same "$tree" "$side"
    rm -rf "$tree"/burst*
    at_rest
  done
  mirror_down "$tree"
  figure '20,000 new files in the sandbox, to host' burst-out-ms ms '' 'tar | tar, once they are made' burst-tar
  figure '20,000 new files on the host, to sandbox' burst-in-ms ms '' 'tar | tar, once they are made' burst-tar
  rm -rf "$tree" "$bench/burst.copy"
}

burst_by_tar() { "${sudo[@]}" tar c -C "$1" . | tar x -C "$bench/burst.copy"; }

# One first synchronisation at each of two sizes: what is between them is per file, the rest is the base.
measure_memory() {
  local sizes=(1000 100000) times=3 size run tree name few many
  if [[ $quick == yes ]]; then
    sizes=(1000 20000)
    times=1
  fi
  for size in "${sizes[@]}"; do
    tree=$bench/memory$size
    helper_in_user make-tree "$tree" "$size"
    for ((run = 0; run < times; run++)); do
      forget_all
      mirror_up "$tree"
      at_rest
      keep "memory$size" memory "session=$session" "agent=$agent"
      mirror_down "$tree"
    done
    rm -rf "$tree"
  done
  for name in session agent; do
    few=$(median "memory${sizes[0]}-$name-rss")
    many=$(median "memory${sizes[1]}-$name-rss")
    say "  $name: $few KiB at ${sizes[0]} files, $many KiB at ${sizes[1]}" \
      "(anonymous: $(median "memory${sizes[0]}-$name-anon") and $(median "memory${sizes[1]}-$name-anon"))"
    awk -v few="$few" -v many="$many" -v less="${sizes[0]}" -v more="${sizes[1]}" \
      'BEGIN { per = (many - few) * 1024 / (more - less); print per; print few * 1024 - per * less }' >"$bench/slope"
    sample "memory-$name-file" "$(sed -n 1p "$bench/slope")"
    sample "memory-$name-base" "$(sed -n 2p "$bench/slope")"
  done
  figure 'memory per file, session' memory-session-file B 200
  figure 'memory beside that, session' memory-session-base MiB $((30 * MIB))
  figure 'memory per file, agent' memory-agent-file B ''
  figure 'memory beside that, agent' memory-agent-base MiB $((20 * MIB))
}

measure_idle() {
  local tree=$bench/idle seconds=60
  if [[ $quick == yes ]]; then seconds=20; fi
  helper_in_user make-tree "$tree" 1000
  mirror_up "$tree"
  at_rest
  # shellcheck disable=SC2046
  keep idle idle --seconds "$seconds" $(mirror_processes)
  mirror_down "$tree"
  figure "idle for $seconds s, processor (utime + stime)" idle-ms ms 0
  figure "idle for $seconds s, processor (scheduler)" idle-scheduled ms ''
  figure "idle for $seconds s, context switches" idle-switches times ''
  rm -rf "$tree"
}
