// The example's load: people who look at products and buy some. Gone with the example. Used like traffic.js.
import { check } from "k6";

import { key, reads, refusals, scenario, send, setup, thresholds } from "./traffic.js";

export { reads, refusals, setup };

export const options = {
  scenarios: {
    browse: scenario("browse", 0.7),
    buy: scenario("buy", 0.15),
    reads: scenario("reads", 0.1),
    refusals: scenario("refusals", 0.05),
  },
  thresholds,
};

let mine = null;

// Each virtual user has a tenant and a product of its own, made on its first visit.
function product() {
  if (mine === null || mine.left < 10) {
    const bearer = key();
    const answer = send("POST", "/v1/products", "/v1/products", bearer, {
      sku: `K6-${__VU}-${__ITER}-${Date.now()}`,
      name: "Oak plank",
      price: { amount_minor: 1999, currency: "EUR" },
      stock: 1000,
    });
    if (answer.status !== 201) {
      return null;
    }
    mine = { bearer, id: answer.json("id"), left: 1000 };
  }
  return mine;
}

export function browse() {
  const it = product();
  if (it !== null) {
    send("GET", "/v1/products?limit=20", "/v1/products?limit=20", it.bearer);
    send("GET", "/v1/products/{product_id}", `/v1/products/${it.id}`, it.bearer);
  }
}

export function buy() {
  const it = product();
  if (it === null) {
    return;
  }
  it.left -= 1;
  const answer = send(
    "POST",
    "/v1/orders",
    "/v1/orders",
    it.bearer,
    { lines: [{ product_id: it.id, quantity: 1 }], payment_method: "tok_ok" },
    { "idempotency-key": `k6-${__VU}-${__ITER}-${Date.now()}` },
  );
  check(answer, { "paid, pending or refused": (it) => [201, 202, 429].includes(it.status) });
}

export default browse;
