#!/usr/bin/env bash
# The main job on real data, step by step: what is run, what it makes, how long it takes. `make demo` builds the binary and
# calls this. It can be run again: a step that finds its work done says so.
#   VINTNER  the binary (target/debug/vintner)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

vintner=${VINTNER:-target/debug/vintner}
out=out
# The data ends in 2013, so the demo's clock stands there: what comes later is not known, online and in runs.
clock=2013-12-30T18:00:00Z
# One flight that leaves at that moment: Delta 432 from New York to San Francisco.
entity=origin=JFK,dest=SFO,carrier=DL,tailnum=N718TW
server=

# Tests and shells may have these set; the demo says what it uses.
unset VINTNER_REPO VINTNER_SERVER VINTNER_NOW

milliseconds() { python3 -c 'import time; print(time.monotonic_ns() // 1000000)'; }

# step TITLE: begins a step.
step() {
    number=$((${number:-0} + 1))
    printf '\n=== %s. %s\n' "$number" "$1"
}

# run ARGUMENTS...: shows and runs one command, then says how long it took.
run() {
    printf '$ vintner %s\n' "$*"
    local began
    began=$(milliseconds)
    "$vintner" "$@"
    printf '  (%s ms)\n' "$(($(milliseconds) - began))"
}

stop_server() {
    if [ -n "$server" ]; then
        kill -TERM "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
        server=
    fi
}
trap stop_server EXIT

mkdir -p "$out"
demo_began=$(milliseconds)

cat <<EOF
Vintner's main job, on every flight that left New York City in 2013: 336,776 flights, 26,115 hours of weather, 3,322 planes.
The data ends in 2013, so the clock of this demo stands at $clock (--now). 1,300 flights are scheduled after it.
EOF

step "Check the definitions in feature_repo/: parse and plan everything, read no rows"
run check

step "Apply: what changes and what it means, then a new version of the registry"
run --now "$clock" apply --yes

step "Materialize: one Delta table per view, then the latest row per key into the online store"
run --now "$clock" materialize

step "Join: every flight with the features as they stood at its scheduled departure"
run --now "$clock" get-historical --service delay_model --entity-rows feature_repo/data/flights.parquet \
    --timestamp-column sched_dep_at --out "$out/training.parquet"

step "Look: eight flights, with what was known when they were to leave"
run --now "$clock" get-historical --service delay_model --entity-rows examples/flights_sample.csv \
    --timestamp-column sched_dep_at --out "$out/sample.csv"
scripts/show_csv.py "$out/sample.csv" \
    sched_dep_at="scheduled departure" origin=from dest=to carrier=by \
    temp="temp °F" wind_speed="wind mph" visib="visib mi" raining=rain \
    carrier_delays__late_share="carrier late" route_delays__mean_dep_delay="route delay" seats dep_delay="its delay"
cat <<'EOF'
  Weather: the last observation at or before departure, at most 6 h old. Carrier and route: the last day that was over by then.
  The last column is what a model would learn to foresee; `-` is null: not known then, or not known at all.
EOF

step "Serve: the same features over gRPC, for one flight that is about to leave"
printf '$ vintner --now %s serve --listen 127.0.0.1:0 &\n' "$clock"
"$vintner" --now "$clock" serve --listen 127.0.0.1:0 >"$out/serve.out" 2>"$out/serve.log" &
server=$!
url=
for _ in $(seq 150); do
    url=$(sed -n 's|.*\(http://[0-9.:]*\).*|\1|p' "$out/serve.out")
    [ -n "$url" ] && break
    kill -0 "$server" 2>/dev/null || { cat "$out/serve.log" >&2; exit 1; }
    sleep 0.1
done
[ -n "$url" ] || { echo "the service did not say its address; its log is $out/serve.log" >&2; exit 1; }
cat "$out/serve.out"
run --server "$url" get-online --service delay_model --entity "$entity"
kill -TERM "$server"
wait "$server"
server=
echo "  (the service was asked to end, and did)"

cat <<EOF

Done in $(($(milliseconds) - demo_began)) ms. What is there now:
  $out/training.parquet          the training rows, all flights
  feature_repo/.vintner/        the registry, the Delta tables, the online store

What to try next:
  $vintner show feature_view carrier_delays      types, lineage, freshness, and why it is recomputed in windows
  $vintner --now 2013-12-31T18:00:00Z materialize      a day later: only what is new
  $vintner history; $vintner runs
  edit feature_repo/weather.yaml, then: $vintner plan      a typo is found with its place, a change with what it means
  make demo      again: every step finds its work done
  rm -r feature_repo/.vintner && make demo      from the start; needed once the stores are ahead of the demo's clock
EOF
