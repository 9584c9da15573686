// Load on the service with k6, and thresholds that fail the run: `make traffic` is for looking, this is for knowing.
// What an example domain adds is a script of its own that imports this one.
//
//   . .local/compose/demo-keys
//   scripts/up.sh compose run --rm -e KEYS="$ACME_WRITE_KEY $GLOBEX_WRITE_KEY" k6 run /scripts/traffic.js
//   k6 run -e ADDRESS=http://127.0.0.1:8080 -e KEYS="ak_… ak_…" -e RATE=200 -e FOR=5m deploy/k6/traffic.js
//
// RATE is in requests a second over all keys and arrives whether or not the service keeps up, as users do. A tenant may
// make 200 a second (rate_limit.per_second): more needs more keys, or shows 429.
import { check } from "k6";
import http from "k6/http";

export const ADDRESSES = (__ENV.ADDRESS || "http://127.0.0.1:8080").split(" ");
const KEYS = (__ENV.KEYS || "").split(" ").filter(Boolean);
const RATE = Number(__ENV.RATE || 50);
const FOR = __ENV.FOR || "1m";

export function scenario(exec, share) {
  return {
    executor: "ramping-arrival-rate",
    exec,
    startRate: 1,
    timeUnit: "1s",
    preAllocatedVUs: 50,
    maxVUs: 500,
    stages: [
      { target: Math.max(1, Math.round(RATE * share)), duration: "10s" },
      { target: Math.max(1, Math.round(RATE * share)), duration: FOR },
    ],
  };
}

export const thresholds = {
  // The objectives of the alerts: 99.9 % answered without 5xx, 99 % within 250 ms.
  "checks{kind:answered}": ["rate>0.999"],
  "http_req_duration{expected:fast}": ["p(99)<250"],
  // What k6 could not send was no load: then the figures above say little.
  dropped_iterations: ["count<100"],
};

export const options = {
  scenarios: { reads: scenario("reads", 0.9), refusals: scenario("refusals", 0.1) },
  thresholds,
};

export function setup() {
  if (KEYS.length === 0) {
    throw new Error("KEYS is empty: the API keys of one tenant or more, as 'ak_… ak_…'");
  }
}

export function key() {
  return KEYS[Math.floor(Math.random() * KEYS.length)];
}

// Sends and checks: anything but 5xx is an answer. `route` is the path's template, so that k6 counts by route.
export function send(method, route, path, bearer, body, headers) {
  const address = ADDRESSES[Math.floor(Math.random() * ADDRESSES.length)];
  const answer = http.request(method, address + path, body ? JSON.stringify(body) : null, {
    headers: Object.assign(
      body ? { "content-type": "application/json" } : {},
      bearer ? { authorization: `Bearer ${bearer}` } : {},
      headers || {},
    ),
    tags: { name: `${method} ${route}`, expected: "fast" },
    timeout: "8s",
  });
  check(answer, { "answered without 5xx": (it) => it.status > 0 && it.status < 500 }, { kind: "answered" });
  return answer;
}

export function reads() {
  send("GET", "/v1/tenant", "/v1/tenant", key());
}

export function refusals() {
  send("GET", "/v1/no-such-route", "/v1/no-such-route", key());
}

export default reads;
