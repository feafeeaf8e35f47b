// Against a running server with a worker: what is followed is the log, whatever becomes of connections.

import assert from "node:assert/strict";
import { test } from "node:test";

import { apiKey, load, server } from "./dist.mjs";

const { GraphmillClient, GraphmillError } = await load("index.js");
const TEXT = "John Backus was born in Philadelphia. He worked at IBM in New York City. ";
const quick = { first: 10, most: 50 };

const client = (own = {}) => new GraphmillClient({ baseUrl: server, apiKey, ...own });
const documents = (count) =>
    Array.from({ length: count }, (_, number) => ({ id: `d${number}`, text: `${number}. ${TEXT.repeat(1 + number)}` }));

async function all(events) {
    const found = [];
    for await (const event of events) found.push(event);
    return found;
}

function inOrder(events) {
    for (let at = 1; at < events.length; at++) assert.ok(events[at].position > events[at - 1].position, `event ${at}`);
}

test("a batch is submitted, followed to its end and exported", async () => {
    const graphmill = client();
    const batch = await graphmill.submit({ documents: documents(3) });
    const connections = [];
    const events = await all(
        graphmill.followBatch(batch.batch_id, { onConnection: (state) => connections.push(state) }),
    );
    inOrder(events);
    assert.equal(events[0].type, "BatchCreated");
    assert.equal(events.at(-1).type, "BatchCompleted");
    assert.equal(events.filter((event) => event.type === "DocumentCompleted").length, 3);
    assert.ok(connections.includes("live") && connections.at(-1) === "ended", String(connections));

    const middle = events[Math.floor(events.length / 2)];
    const rest = await all(graphmill.followBatch(batch.batch_id, { after: String(middle.position) }));
    assert.deepEqual(rest, events.filter((event) => event.position > middle.position));
    const execution = events.find((event) => event.type === "DocumentStarted").workflowExecutionId;
    const own = await all(graphmill.followExecution(execution));
    assert.deepEqual(own, events.filter((event) => event.workflowExecutionId === execution));

    const graph = JSON.parse(await new Response(await graphmill.exportBatch(batch.batch_id)).text());
    assert.equal(graph.documents.length, 3);
    assert.ok((await graphmill.batches({ limit: 5 })).batches.some((one) => one.batch_id === batch.batch_id));
    assert.equal((await graphmill.batch(batch.batch_id)).documents.completed, 3);
});

test("cut connections leave no gap and no repeat", async () => {
    let cuts = 0;
    // The connection itself breaks, after fewer bytes than a few events have.
    const cutting = async (address, request) => {
        const response = await fetch(address, request);
        if (!(response.headers.get("content-type") ?? "").startsWith("text/event-stream")) return response;
        let left = 700 + 300 * (cuts++ % 5);
        const cut = new TransformStream({
            transform(bytes, controller) {
                controller.enqueue(bytes.slice(0, left));
                left -= bytes.length;
                if (left <= 0) controller.error(new Error("cut"));
            },
        });
        return new Response(response.body.pipeThrough(cut), response);
    };
    const batch = await client().submit({ documents: documents(12) });
    const options = { backoff: quick, pollAfter: 1_000 };
    const found = await all(client({ fetch: cutting }).followBatch(batch.batch_id, options));
    assert.ok(cuts > 5, `${cuts} cuts`);
    assert.deepEqual(found, await all(client().followBatch(batch.batch_id)));
    inOrder(found);
});

test("where streams do not get through, the log is polled", async () => {
    const refusing = (address, request) =>
        request.headers.accept === "text/event-stream"
            ? Promise.resolve(new Response("<html>", { headers: { "content-type": "text/html" } }))
            : fetch(address, request);
    const batch = await client().submit({ documents: documents(3) });
    const states = new Set();
    const options = { backoff: quick, pollEvery: 20, onConnection: (state) => states.add(state) };
    const found = await all(client({ fetch: refusing }).followBatch(batch.batch_id, options));
    assert.ok(states.has("polling"));
    assert.deepEqual(found, await all(client().followBatch(batch.batch_id)));
});

test("progress begins with how it stands and comes to 100", async () => {
    const batch = await client().submit({ documents: documents(2) });
    const events = await all(client().followBatch(batch.batch_id));
    const execution = events.find((event) => event.type === "DocumentStarted").workflowExecutionId;
    const [now] = await all(client().followProgress(execution));
    assert.equal(now.workflowExecutionId, execution);
    assert.equal(now.batchId, batch.batch_id);
    assert.equal(now.progress, 100);
    assert.equal(now.status, "completed");
});

test("whoever leaves is told nothing more", async () => {
    const batch = await client().submit({ documents: documents(2), open: true });
    const leave = new AbortController();
    let heard = 0;
    for await (const event of client().followBatch(batch.batch_id, { signal: leave.signal })) {
        heard++;
        if (event.type === "DocumentCompleted") leave.abort();
    }
    assert.ok(heard > 2);
    for await (const _ of client().followBatch(batch.batch_id)) break;
    await client().signal(batch.batch_id, "cancel");
});

test("what trying again does not help is an error that says why", async () => {
    const unknown = all(client().followBatch("nobody", { backoff: quick }));
    await assert.rejects(unknown, (error) => {
        assert.ok(error instanceof GraphmillError);
        assert.deepEqual([error.status, error.retryable], [404, false]);
        assert.match(error.message, /no batch has this id/);
        return true;
    });
    const refused = client().submit({ documents: [{ id: "", text: 1 }] });
    await assert.rejects(refused, (error) => error.status === 422 && error.problem.request_id !== "");
    const away = client({ baseUrl: "http://127.0.0.1:9" }).batch("x");
    await assert.rejects(away, (error) => error.status === 0 && error.retryable);
});
