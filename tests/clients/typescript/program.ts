// What somebody writes against the generated types with openapi-fetch: type-checked
// by tsc, then run against the program at MILLRACE_URL.

import { strict as assert } from "node:assert";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";

import createClient from "openapi-fetch";

import type { components, paths, webhooks } from "./api.js";

type Problem = components["schemas"]["Problem"];
type CloudEvent = components["schemas"]["CloudEvent"];
type Delivery = components["schemas"]["Delivery"];
type EventSummary = components["schemas"]["EventSummary"];
type Exhausted =
  webhooks["millrace.delivery.exhausted"]["post"]["requestBody"]["content"]["application/cloudevents+json"];

const url = process.env["MILLRACE_URL"] ?? "";
const adminKey = process.env["MILLRACE_ADMIN_KEY"] ?? "";

function client(key: string) {
  return createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${key}` } });
}

/** The answer, unless it is a problem. */
function expect<T>(answer: { data?: T; error?: Problem }): T {
  if (answer.error !== undefined) {
    throw new Error(`${answer.error.code}: ${answer.error.detail}`);
  }
  assert(answer.data !== undefined);
  return answer.data;
}

/** What a program does about a problem; the compiler knows whether all are there. */
function advice(problem: Problem): string {
  switch (problem.code) {
    case "invalid":
    case "too_large":
    case "unsupported_media_type":
      return `mend ${problem.field ?? "the request"}`;
    case "unauthenticated":
    case "forbidden":
      return "ask for another key";
    case "not_found":
      return "look elsewhere";
    case "conflict":
    case "idempotency_key_reused":
      return "decide";
    case "idempotency_key_in_use":
    case "rate_limited":
    case "unavailable":
      return "come back";
    case "internal":
      return "report it";
  }
  return otherAdvice(problem.code);
}

/** Whatever code is added later is met here. */
function otherAdvice(code: string): string {
  return `what is ${code}?`;
}

async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  for (let tries = 0; tries < 200; tries++) {
    const found = await look();
    if (found !== undefined) {
      return found;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`not within 20 s: ${what}`);
}

async function body(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) {
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString();
}

// A receiver of webhooks.
const received: CloudEvent[] = [];
const receiver = createServer(async (request, response) => {
  received.push(JSON.parse(await body(request)) as CloudEvent);
  response.writeHead(204).end();
});
await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
const { port } = receiver.address() as AddressInfo;

// A project and a key of it.
const admin = client(adminKey);
const project = expect(await admin.POST("/v1/projects", { body: { name: "typescript" } }));
const key = expect(
  await admin.POST("/v1/projects/{id}/keys", {
    params: { path: { id: project.id } },
    body: {
      name: "program",
      scopes: [
        "events:write",
        "events:read",
        "endpoints:write",
        "endpoints:read",
        "meters:write",
        "meters:read",
      ],
    },
  }),
);
const api = client(key.key);

// An endpoint, changed and looked at.
const endpoint = expect(
  await api.POST("/v1/endpoints", {
    body: { url: `http://127.0.0.1:${port}/`, event_types: ["order.*"], tenant: "acme" },
  }),
);
assert(endpoint.secret.startsWith("whsec_"));
const byId = { params: { path: { id: endpoint.id } } };
const changed = expect(
  await api.PATCH("/v1/endpoints/{id}", { ...byId, body: { tenant: null, rate_limit: 100 } }),
);
assert.equal(changed.tenant, null);
assert.equal(changed.rate_limit, 100);
assert.equal(changed.state, "enabled");
const stats = expect(await api.GET("/v1/endpoints/{id}/stats", byId));
assert.equal(stats.breaker.state, "closed");

// An event type with a schema, and a meter.
expect(
  await api.POST("/v1/event-types", {
    body: { name: "order.refused", schema: { type: "object", required: ["total"] } },
  }),
);
const meter = expect(
  await api.POST("/v1/meters", {
    body: {
      name: "orders",
      event_type: "order.*",
      aggregation: "count",
      filters: [{ pointer: "/test", exists: false }],
    },
  }),
);

// Events with every kind of data.
const datas: unknown[] = [{ total: 12.5, lines: [{ sku: "a" }] }, [1, "two", null], "text", null];
const ids: string[] = [];
for (const data of datas) {
  const accepted = expect(
    await api.POST("/v1/events", { body: { type: "order.placed", tenant: "acme", data } }),
  );
  assert.equal(accepted.duplicate, false);
  ids.push(accepted.id);
}
for (const [n, id] of ids.entries()) {
  const path = { params: { path: { id } } };
  const detail = expect(await api.GET("/v1/events/{id}", path));
  assert.equal(detail.event.type, "order.placed");
  assert.equal(detail.event.tenant, "acme");
  assert.deepEqual(detail.event.data, datas[n]);
  const delivery: Delivery = await until("a delivery", async () => {
    const query = { event_id: id, state: "delivered" as const };
    const page = expect(await api.GET("/v1/deliveries", { params: { query } }));
    return page.data[0];
  });
  assert.equal(delivery.endpoint_id, endpoint.id);
  const attempt = delivery.attempts[0];
  const status: number | undefined = attempt?.status;
  assert.equal(status, 204);
}
assert(received.length >= ids.length);

// A batch: of each event what became of it.
const batch = expect(
  await api.POST("/v1/events/batch", {
    body: [
      { specversion: "1.0", id: "1", source: "/s", type: "order.placed", shop: "berlin" },
      { type: "order.refused", data: {} },
    ],
  }),
);
const [taken, refused] = batch.data;
assert(taken !== undefined && "id" in taken);
assert(refused !== undefined && "error" in refused);
assert.equal(refused.error.code, "invalid");
const whole = expect(
  await api.GET("/v1/events/{id}", { params: { path: { id: taken.id } } }),
);
assert.equal(whole.event["shop"], "berlin");

// Pages, to the last.
const listed: EventSummary[] = [];
for (let cursor: string | null | undefined; cursor !== null; ) {
  const query = { limit: 2, type: "order.placed", ...(cursor === undefined ? {} : { cursor }) };
  const page = expect(await api.GET("/v1/events", { params: { query } }));
  listed.push(...page.data);
  cursor = page.next_cursor;
}
assert.equal(listed.length, ids.length + 1);
const subject: string | null = listed[0]?.subject ?? null;
assert.equal(subject, null);

// Usage.
const usage = await until("usage", async () => {
  const query = { from: new Date(Date.now() - 3_600_000).toISOString(), window: "month" as const };
  const path = { id: meter.id };
  const page = expect(await api.GET("/v1/meters/{id}/usage", { params: { path, query } }));
  const total = page.data.reduce((sum, row) => sum + row.value, 0);
  return total === listed.length ? page.data : undefined;
});
assert.equal(usage[0]?.tenant, null);

// Bodies of which nothing is required may be left out.
expect(await api.POST("/v1/events/{id}/replay", { params: { path: { id: ids[0] ?? "" } } }));
expect(await api.POST("/v1/endpoints/{id}/rotate-secret", byId));

// Problems, told by their codes.
const again = await api.POST("/v1/meters", {
  body: { name: "orders", event_type: "*", aggregation: "count" },
});
assert(again.error !== undefined);
assert.equal(again.error.code, "conflict");
assert.equal(advice(again.error), "decide");
const wrong = await api.POST("/v1/endpoints", { body: { url: "nonsense" } });
assert(wrong.error !== undefined);
assert.equal(advice(wrong.error), "mend url");
const foreign = await client("mr_nobody").GET("/v1/endpoints");
assert(foreign.error !== undefined);
assert.equal(advice(foreign.error), "ask for another key");

// What the document does not allow is an error of the compiler's, who says so if one of
// these is none.
function refusedByTheCompiler(problem: Problem, event: Exhausted) {
  // @ts-expect-error -- an event has a type
  void api.POST("/v1/events", { body: { data: 1 } });
  // @ts-expect-error -- what may be left out is not set to undefined
  void api.PATCH("/v1/endpoints/{id}", { ...byId, body: { url: undefined } });
  // @ts-expect-error -- an endpoint has a URL
  void api.POST("/v1/endpoints", { body: { url: null } });
  // @ts-expect-error -- there is no such code
  void (problem.code === "teapot");
  // @ts-expect-error -- there is no such reason
  void (event.data.reason === "boredom");
  return event.data.attempts_made satisfies number;
}
void refusedByTheCompiler;

receiver.close();
console.log(`TypeScript: ${received.length} webhooks, ${listed.length} events, all as typed`);
