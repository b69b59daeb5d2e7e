#!/usr/bin/env bash
# The replies of the server while an application runs: the application as it is moved to the server, and as it is ported.
#
# usage: cargo build --release --features cli --examples && bench/messages.sh [PROFILE]
#
# Counts the server's writes to sockets, a reply or several at once each. Needs strace, and may need root for it.
set -euo pipefail
cd "$(dirname "$0")/../target/${1:-release}/examples"
address=127.0.0.1:7399
log=$(mktemp)
trap 'kill $(jobs -p) 2> /dev/null || true; rm -f "$log" "$log.trace"' EXIT

# count EXECUTABLE ARGUMENT..: prints the number for one run.
count() {
  "./$1" crucial server --listen "$address" > "$log" 2>&1 &
  local server=$! tracer
  # The ready line; a server that cannot start ends, and so does this.
  until grep -q ready "$log"; do kill -0 "$server"; done
  strace -f -qq -e trace=sendto,sendmsg,writev -o "$log.trace" -p "$server" &
  tracer=$!
  until grep -q '^TracerPid:.[1-9]' "/proc/$server/status"; do kill -0 "$tracer"; done
  CRUCIAL_SPIN_US=0 CRUCIAL_CLUSTER=$address "./$1" "${@:2}" > /dev/null < /dev/null
  # One after the other: a tracer that ends lets go of the server first.
  kill "$tracer" && wait "$tracer" || true
  kill "$server" && wait "$server" || true
  grep -c -E 'sendto|sendmsg|writev' "$log.trace"
}

printf '%-12s %9s %7s\n' program 'to server' ported
while read -r program arguments; do
  # shellcheck disable=SC2086
  printf '%-12s %9d %7d\n' "$program" "$(count "$program" $arguments)" "$(count "$program-ported" $arguments)"
done << 'PROGRAMS'
montecarlo --threads 100 --points 1000
kmeans
logistic
santa --millis 2
PROGRAMS
