#!/bin/bash
# From a bare Debian 12 to a server that runs under the agent: sets up, builds, starts an example server on port 8000,
# shows the agent's phase, the time to ready and a first answered request, and stays until ^C.
#
#   packaging/quickstart.sh
set -euo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
agent=$tree/build/release/modal-agent
port=8000
pid=''
folder=''

say() { printf '\n== %s\n' "$*"; }
die() {
  printf 'quickstart: error: %s\n' "$*" >&2
  exit 1
}

build() {
  local log=$folder/build.log
  printf 'building (a few minutes the first time) …\n'
  if ! (cd "$tree" && cmake --preset release && cmake --build --preset release --target modal-agent) >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    die "the build failed; see the lines above"
  fi
}

check_port() {
  python3 - "$port" <<'PYTHON' || die "port $port is already taken; end the program that listens there, then run this again"
import socket, sys
with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind(("0.0.0.0", int(sys.argv[1])))
        probe.listen()
    except OSError:
        sys.exit(1)
PYTHON
}

stop() {
  printf '\nstopping …\n'
  kill -TERM "$pid" 2>/dev/null || true
}

# The agent's exit status. Each signal of ours ends a wait before the agent has ended.
wait_agent() {
  while kill -0 "$pid" 2>/dev/null; do wait "$pid" || true; done
  wait "$pid"
}

wait_ready() {
  local tries
  for ((tries = 0; tries < 200; tries++)); do
    if "$agent" health >/dev/null 2>&1; then return; fi
    kill -0 "$pid" 2>/dev/null || return 1
    sleep 0.05
  done
  return 1
}

# Whatever ends this script ends the agent too.
clean_up() {
  if [[ -n $pid ]] && kill -TERM "$pid" 2>/dev/null; then wait "$pid" || true; fi
  rm -rf "$folder"
}

folder=$(mktemp -d)
trap clean_up EXIT

say "set-up"
"$tree/packaging/setup.sh" --quickstart
check_port

say "build"
build
printf '%s: %s bytes, static\n' "${agent#"$tree"/}" "$(stat -c %s "$agent")"

say "modal-agent run --port $port -- python3 packaging/examples/python-server/server.py"
export MODAL_AGENT_CONTROL=$folder/control.sock
trap stop INT TERM
# In a process group of its own: ^C comes to this script alone, which then asks the agent once.
set -m
"$agent" run --port "$port" -- python3 "$tree/packaging/examples/python-server/server.py" </dev/null &
pid=$!
set +m
if ! wait_ready; then
  stop
  wait_agent || true
  die "the server did not get ready; see the log above"
fi

say "modal-agent status"
"$agent" status

say "curl http://127.0.0.1:$port/"
curl --silent --show-error --fail --max-time 10 "http://127.0.0.1:$port/"

printf '\nServing on port %s. ^C stops it.\n' "$port"
wait_agent
