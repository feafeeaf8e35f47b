// What needs no server: cutting streams into messages, and waits.

import assert from "node:assert/strict";
import { test } from "node:test";

import { load } from "./dist.mjs";

const { messages } = await load("sse.js");
const { backoff } = await load("backoff.js");

async function cut(bytes, size) {
    const body = new ReadableStream({
        start(controller) {
            for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
            controller.close();
        },
    });
    const found = [];
    for await (const message of messages(body, () => {})) found.push(message);
    return found;
}

test("messages are the same however the bytes arrive", async () => {
    const text = [
        "retry: 1000\n\n",
        ": a heartbeat\n\n",
        "id: 7\nevent: StageCompleted\ndata: {\"a\":\ndata: \"ü\"}\n\n",
        "data:x\r\nid:8\r\n\r\n",
        "data: last\rid: 9\r\r",
        "data: never ended",
    ].join("");
    const bytes = new TextEncoder().encode(text);
    const whole = await cut(bytes, bytes.length);
    assert.deepEqual(
        whole.map(({ id, event, data, retry }) => [id, event, data, retry]),
        [
            [undefined, "message", "", 1000],
            ["7", "StageCompleted", "{\"a\":\n\"ü\"}", undefined],
            ["8", "message", "x", undefined],
            ["9", "message", "last", undefined],
        ],
    );
    for (const size of [1, 2, 3, 5, 7]) assert.deepEqual(await cut(bytes, size), whole, `pieces of ${size}`);
});

test("waits double, are capped, and differ", () => {
    assert.equal(backoff(1, {}, () => 1), 500);
    assert.equal(backoff(4, {}, () => 1), 4_000);
    assert.equal(backoff(4, {}, () => 0), 2_000);
    assert.equal(backoff(1_000, {}, () => 1), 30_000);
});
