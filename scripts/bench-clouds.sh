# shellcheck shell=bash
# The rows of scripts/bench about providers' sandboxes; it sources this. The providers are the test servers, on this
# machine, with and without the delay of a long line; what is said to them directly is in bench-clouds.py.
# shellcheck disable=SC2154  # `bench`, `runs`, `quick`, `sudo`, `SKYNC` and `IMAGE` are set there

CLOUD_KEY=e2b_9c41d07a55be4f1e8a3392cf
# One way, in milliseconds; what goes over the wire is told of the last.
CLOUD_DELAYS=(0 40)
# The sandbox's user is not root: there it can make the project.
CLOUD_ROOT=/tmp/project
CLOUD_START_S_MAX=30
CLOUD_IDLE_S=30
# What both sides do themselves, beside the round trips.
CLOUD_EDIT_MS=10
CLOUD_EXEC_MS=30

clouds_helper() { python3 scripts/bench-clouds.py "$@" </dev/null; }

# --- servers ---

# start_cloud PROVIDER DELAY: sets `url`, and what leads skync there.
start_cloud() {
  local deadline=$((SECONDS + CLOUD_START_S_MAX))
  : >"$bench/cloud.out"
  "$test_servers" "$1" --key "$CLOUD_KEY" --image "$IMAGE" --delay-ms "$2" \
    </dev/null >"$bench/cloud.out" 2>"$bench/cloud.log" &
  cloud=$!
  until url=$(sed -n 's/^listening on //p' "$bench/cloud.out") && [[ -n $url ]]; do
    if ! kill -0 "$cloud" 2>/dev/null || ((SECONDS > deadline)); then
      cat "$bench/cloud.log" >&2
      die "the test server \`$1\` does not start"
    fi
    sleep 0.1
  done
  # Nothing of the machine's own may lead elsewhere.
  unset E2B_ACCESS_TOKEN E2B_DEBUG E2B_DOMAIN DAYTONA_JWT_TOKEN DAYTONA_ORGANIZATION_ID \
    DAYTONA_SERVER_URL DAYTONA_TARGET
  export E2B_API_KEY=$CLOUD_KEY E2B_API_URL=$url E2B_SANDBOX_URL=$url
  export DAYTONA_API_KEY=$CLOUD_KEY DAYTONA_API_URL=$url/api
}

# It removes its sandboxes.
stop_cloud() {
  [[ -n ${cloud:-} ]] || return 0
  kill "$cloud" 2>/dev/null || true
  wait "$cloud" 2>/dev/null || true
  cloud=''
}

# The only container of the server; others may be another's.
cloud_container() {
  docker ps --format '{{.ID}} {{.Label "skync-test-servers"}}' | awk -v owner="$cloud." 'index($2, owner) == 1 { print $1 }'
}

# per KEY TIMES DIRECTORY COMMAND...: a command, and what goes over the wire each time that it does something.
per() {
  keep_answers "$1" clouds_helper per "$url" --times "$2" --directory "$3" -- "${@:4}"
}

# --- rows ---

measure_clouds() {
  local delay
  for delay in "${CLOUD_DELAYS[@]}"; do
    cloud_at e2b "$delay" e2b --link websocket
    cloud_at 'e2b stream' "$delay" e2b --link stream
    cloud_at daytona "$delay" daytona
  done
}

# cloud_at NAME DELAY PROVIDER [OPTION...]
cloud_at() {
  local name="$1, $2 ms" delay=$2 provider=$3 key=clouds-${1// /-}-$2 peer_key=clouds-peer-$3-$2
  shift 3
  say "  $name one way"
  start_cloud "$provider" "$delay"
  "$SKYNC" -q profile add cloud --force --driver "$provider" --root "$CLOUD_ROOT" "$@"
  export SKYNC_PROFILE=cloud
  forget_all
  cloud_trees
  cloud_runs
  cloud_edits
  unset SKYNC_PROFILE
  stop_cloud
  cloud_table
}

cloud_trees() {
  if [[ $quick == yes ]]; then
    large=$bench/clouds-large large_what='200 files / 10 MB'
    [[ -d $large ]] || make_tree "$large" 200 50 50000
  else
    tree large
    large=$bench/large large_what='1,000 files / 100 MB'
  fi
  few=$bench/clouds-few
  [[ -d $few ]] || make_tree "$few" 2000 100 1024 2048 3072 4096 5120 6144 7168 8192
}

# In turns: new sandboxes, commands and files of a live session, and the provider's own calls.
cloud_runs() {
  local run size
  for ((run = 0; run < runs; run++)); do
    first_byte "$key-cold" in_project exec echo hello
    per "$key-cold" 1 "$bench/project" "$SKYNC" -q exec true
    for size in large few; do
      forget_all
      phase "$key-$size-new" 'sync in' "${!size}"
    done
    open_session "$bench/project"
    cloud_execs
    for size in large few; do
      mv "${!size}" "$bench/project/tree"
      phase "$key-$size" 'sync in' "$bench/project"
      mv "$bench/project/tree" "${!size}"
      # What is gone here goes there, too, before the next is measured.
      in_project exec true
    done
    close_session
    keep_answers "$peer_key" clouds_helper peer "$url" "$provider" --key "$CLOUD_KEY" --times 4 \
      --tree "large=$large" --tree "few=$few"
  done
}

cloud_execs() {
  local count
  for ((count = 0; count < 4; count++)); do
    timed "$key-exec" in_project exec true
  done
  # shellcheck disable=SC2016  # for that shell
  per "$key-exec" 4 "$bench/project" \
    sh -c 'for run in 1 2 3 4; do "$0" -q exec true || exit 1; done' "$SKYNC"
}

# Edits in a mirror, both ways, and what it costs to do nothing.
cloud_edits() {
  local tree=$bench/clouds-tree count=20 run pause agent side
  if [[ $quick == yes ]]; then count=10; fi
  # All that the last edit has caused is over: it comes home, and is acknowledged.
  pause=$(awk -v ms="$delay" 'BEGIN { print 0.05 + 3 * ms / 1000 }')
  [[ -d $tree ]] || helper_in_user make-tree "$tree" 100
  projects+=("$tree")
  (cd "$tree" && "$SKYNC" -q up -d </dev/null && "$SKYNC" -q flush) || die "\`skync up -d\` failed"
  agent=$(docker inspect -f '{{.State.Pid}}' "$(cloud_container)")
  side=/proc/$agent/root$CLOUD_ROOT
  # The first synchronisation is still being written down.
  sleep 1
  for ((run = 0; run < runs; run++)); do
    cloud_edit in "$tree" "$side" "$run"
    cloud_edit out "$side" "$tree" "1$run"
  done
  if [[ $quick == no ]] && ((delay == CLOUD_DELAYS[-1])); then per "$key-idle" 1 . sleep "$CLOUD_IDLE_S"; fi
  helper same "$tree" "$side"
  mirror_down "$tree"
}

# cloud_edit WAY TREE OTHER SEED: two files are edited each time, each in its own way.
cloud_edit() {
  per "$key-edit-$1" $((count * 2)) . "${sudo[@]}" python3 scripts/bench-mirror.py edits "$2" "$3" \
    --count 100 --edits "$count" --seed "$4" --pause "$pause" --label "$name, $1"
}

cloud_table() {
  local round_trip_ms=$((delay * 2)) own="the API's calls"
  figure "$name: edit to sandbox, median" "$key-edit-in-median" ms $((round_trip_ms + CLOUD_EDIT_MS))
  figure "$name: edit to sandbox, p99" "$key-edit-in-p99" ms ''
  figure "$name: edit to host, median" "$key-edit-out-median" ms $((round_trip_ms + CLOUD_EDIT_MS))
  figure "$name: edit to host, p99" "$key-edit-out-p99" ms ''
  figure "$name: exec true, live session" "$key-exec" ms $((2 * round_trip_ms + CLOUD_EXEC_MS)) "$own" "$peer_key-live"
  figure "$name: exec echo, new, first byte" "$key-cold" ms '' "$own" "$peer_key-cold"
  row "$name: $large_what, new sandbox" "$key-large-new" 'tar by the API, unpacked' "$peer_key-large" ''
  row "$name: $large_what, live" "$key-large" 'tar by the API, unpacked' "$peer_key-large" 1.0
  row "$name: 2,000 small, new sandbox" "$key-few-new" 'tar by the API, unpacked' "$peer_key-few" ''
  row "$name: 2,000 small, live" "$key-few" 'tar by the API, unpacked' "$peer_key-few" 1.0
  if ((delay != CLOUD_DELAYS[-1])); then return; fi
  cloud_wire 'edit to sandbox' edit-in
  cloud_wire 'edit to host' edit-out
  cloud_wire 'exec true, live' exec
  cloud_wire 'create + remove' cold
  if [[ $quick == no ]]; then cloud_wire "idle, $CLOUD_IDLE_S s" idle; fi
}

cloud_wire() {
  figure "$name: $1, requests" "$key-$2-requests" requests ''
  figure "$name: $1, wire" "$key-$2-bytes" KiB ''
}
