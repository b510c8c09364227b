#!/bin/bash
# Sets up, builds and tests, from a bare Debian 12 on. Within 20 minutes on two cores:
#
#   packaging/test.sh          release and ASan+UBSan, two minutes of fuzzing, the core container trials
#   packaging/test.sh --long   also TSan, soaks, longer fuzzing, every container trial with packaging/Containerfile
#
# Each stage says how long it took and shows its output when it fails; the logs of all stay in build/test-logs.
# The last line counts everything: `N passed, N failed`.
set -uo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
logs=$tree/build/test-logs
long=''
fuzz_seconds=120
soak_labels='long|container'  # labels that a ctest run leaves out
trials=()
passed=0
failed=0
stage_pid=''

for word in "$@"; do
  case "$word" in
    --long)
      long=yes
      fuzz_seconds=900
      soak_labels='container'
      trials=(--all)
      ;;
    -h | --help)
      sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      printf "test: error: unknown option '%s'; there are --long and --help\n" "$word" >&2
      exit 2
      ;;
  esac
done

# shellcheck disable=SC2317  # called by the trap below
interrupted() {
  # The stage runs in a process group of its own, which ^C does not reach.
  if [[ -n $stage_pid ]]; then
    kill -TERM "$stage_pid" 2>/dev/null
    wait "$stage_pid"
  fi
  printf '\ninterrupted\n%d passed, %d failed\n' "$passed" "$((failed + 1))"
  exit 130
}
trap interrupted INT TERM

# Runs a command within a limit of seconds, its output to a log. Sets `log` and returns the command's status.
run_stage() {  # NAME LIMIT COMMAND…
  local name=$1 limit=$2 begin=$SECONDS status=0
  shift 2
  log=$logs/${name//[^A-Za-z0-9_.-]/-}.log
  timeout --kill-after=60 "$limit" "$@" >"$log" 2>&1 </dev/null &
  stage_pid=$!
  wait "$stage_pid" || status=$?
  stage_pid=''
  if ((status == 0)); then
    printf 'ok    %4d s  %s' "$((SECONDS - begin))" "$name"
  else
    printf 'FAIL  %4d s  %s' "$((SECONDS - begin))" "$name"
    if ((status == 124 || status == 137)); then printf ' (more than its %d s)' "$limit"; fi
  fi
  return "$status"
}

show_log() {
  printf '\n'
  tail -n 400 "$log" | sed 's/^/      /'
}

# A stage that must succeed but is not a test of its own: only its failure counts.
step() {  # NAME LIMIT COMMAND…
  if run_stage "$@"; then
    printf '\n'
    return 0
  fi
  failed=$((failed + 1))
  show_log
  return 1
}

# ctest, counted test by test.
ctest_stage() {  # NAME LIMIT ARGUMENT…
  local name=$1 limit=$2 status=0 good bad skipped
  shift 2
  run_stage "$name" "$limit" ctest "$@" --output-on-failure || status=$?
  good=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#[0-9]+: .* Passed ' "$log")
  skipped=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#[0-9]+: .*\*\*\*(Skipped|Not Run \(Disabled\))' "$log")
  bad=$(($(grep -cE '^ *[0-9]+/[0-9]+ Test +#[0-9]+: .*\*\*\*' "$log") - skipped))
  if ((bad == 0)) && { ((status != 0)) || ((good == 0)); }; then bad=1; fi
  passed=$((passed + good))
  failed=$((failed + bad))
  printf ': %d passed, %d failed' "$good" "$bad"
  if ((skipped > 0)); then printf ', %d skipped (see %s)' "$skipped" "${log#"$tree"/}"; fi
  printf '\n'
  if ((bad > 0)); then show_log; fi
}

build() {  # PRESET
  step "build $1" 2400 sh -c "cmake --preset $1 && cmake --build --preset $1"
}

fuzz_one() {  # PROGRAM SECONDS
  local program=$1 seconds=$2 name seeds folders artifacts dictionary stem options=()
  name=$(basename "$program")
  folders=("$tree/build/fuzz/found/$name")
  artifacts=$tree/build/fuzz/findings/
  mkdir -p "${folders[0]}" "$artifacts"
  options=(-max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0
    -artifact_prefix="$artifacts$name-")
  # http.dict serves fuzz_http and every fuzz_http_….
  for dictionary in "$tree"/tests/fuzz/*.dict; do
    stem=$(basename "$dictionary" .dict)
    if [[ ${name}_ == fuzz_${stem}_* ]]; then options+=(-dict="$dictionary"); fi
  done
  # What this run finds goes to the first folder; the tree's own seeds are only read.
  for seeds in "$tree/tests/fuzz/corpus/$name" "$tree/tests/fuzz/corpus/${name#fuzz_}"; do
    if [[ -d $seeds ]]; then
      folders+=("$seeds")
      break
    fi
  done
  if run_stage "fuzz $name" "$((seconds + 90))" "$program" "${options[@]}" "${folders[@]}"; then
    passed=$((passed + 1))
    printf ': %s executions\n' "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
  else
    failed=$((failed + 1))
    show_log
  fi
}

fuzz() {
  local programs=() program
  while IFS= read -r program; do programs+=("$program"); done \
    < <(find "$tree/build/fuzz" -type f -executable -name 'fuzz_*' ! -path '*/CMakeFiles/*' | sort)
  if ((${#programs[@]} == 0)); then
    failed=$((failed + 1))
    printf 'FAIL  no fuzzer was built\n'
    return
  fi
  for program in "${programs[@]}"; do
    fuzz_one "$program" "$((fuzz_seconds / ${#programs[@]} + 1))"
  done
}

containers() {
  local counted good=0 bad=0 status=0
  run_stage "containers" "$([[ -n $long ]] && echo 3600 || echo 600)" \
    "$tree/tests/container/run.py" --agent "$tree/build/release/modal-agent" "${trials[@]}" || status=$?
  counted=$(tail -n 1 "$log")
  if [[ $counted =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
    good=${BASH_REMATCH[1]}
    bad=${BASH_REMATCH[2]}
  fi
  if ((bad == 0)) && { ((status != 0)) || ((good == 0)); }; then bad=1; fi
  passed=$((passed + good))
  failed=$((failed + bad))
  printf ': %d passed, %d failed\n' "$good" "$bad"
  if ((bad > 0)); then show_log; fi
}

finish() {
  printf '%d passed, %d failed\n' "$passed" "$failed"
  ((passed > 0 && failed == 0))
  exit
}

# ---- main ----

cd "$tree" || exit 1
mkdir -p "$logs"
# The tests set what they need; what the caller's shell says to an agent is none of their business.
unset "${!MODAL_AGENT_@}" PORT

step "set-up" 1200 "$tree/packaging/setup.sh" || finish
long_limit=${long:+3600}  # the soaks alone take ten minutes, and sanitizers slow down what is beside them
if build release; then
  ctest_stage "test release" "${long_limit:-900}" --preset release --label-exclude "$soak_labels"
  containers
fi
if build asan; then ctest_stage "test asan" "${long_limit:-1200}" --preset asan --label-exclude "$soak_labels"; fi
if build fuzz; then fuzz; fi
if [[ -n $long ]] && build tsan; then ctest_stage "test tsan" "$long_limit" --preset tsan --label-exclude "$soak_labels"; fi
finish
