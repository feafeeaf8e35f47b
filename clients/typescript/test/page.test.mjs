// A page in headless Chromium that uses the hook, with the page's server between it and graphmill.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer, request as forward } from "node:http";
import { join } from "node:path";
import { test } from "node:test";

import { Chromium } from "../../../tests/browser/chromium.mjs";
import { apiKey, folder, load, server } from "./dist.mjs";

const { GraphmillClient } = await load("index.js");

const REACT = {
    "/react.js": "/usr/share/nodejs/react/umd/react.production.min.js",
    "/react-dom.js": "/usr/share/nodejs/react-dom/umd/react-dom.production.min.js",
};
const PAGE = (execution) => `<!doctype html><meta charset="utf-8"><title>progress</title>
<script src="/react.js"></script><script src="/react-dom.js"></script>
<script type="importmap">{ "imports": { "react": "/react.mjs" } }</script>
<div id="root"></div>
<script type="module">
    import { useWorkflowProgress } from "/dist/react.js";
    const { createElement: h } = React;
    globalThis.seen = [];
    function Bar() {
        const { progress, percent, connection, error } = useWorkflowProgress("${execution}");
        if (progress !== undefined) seen.push(percent);
        return h("main", null, h("progress", { max: 100, value: percent }),
            h("p", { id: "says" }, percent + " % " + (progress?.stage ?? "") + " " + connection + " " + (error?.message ?? "")));
    }
    ReactDOM.createRoot(document.getElementById("root")).render(h(Bar));
</script>`;

/** Serves the page, and hands everything under /api on; `broken` says how many streams are to break off. */
function site(execution, broken) {
    const text = (response, type, body) => response.writeHead(200, { "content-type": type }).end(body);
    return createServer((request, response) => {
        const path = new URL(request.url, "http://page").pathname;
        if (path === "/") return text(response, "text/html", PAGE(execution));
        if (path === "/react.mjs") {
            return text(response, "text/javascript", "export const { useEffect, useState } = globalThis.React;");
        }
        if (path in REACT) return text(response, "text/javascript", readFileSync(REACT[path]));
        if (/^\/dist\/[a-z]+\.js$/.test(path)) {
            return text(response, "text/javascript", readFileSync(join(folder, path.slice("/dist/".length))));
        }
        if (!path.startsWith("/api/")) return response.writeHead(404).end();
        const headers = { accept: request.headers.accept };
        if (apiKey !== undefined) headers.authorization = `Bearer ${apiKey}`;
        const asked = forward(new URL(request.url, server), { headers }, (answer) => {
            response.writeHead(answer.statusCode, answer.headers);
            answer.pipe(response);
            if (broken.left-- > 0) answer.once("data", () => setTimeout(() => response.destroy(), 20));
        });
        asked.on("error", () => response.destroy());
        response.on("close", () => asked.destroy());
        asked.end();
    });
}

test("a page with the hook shows live progress to 100 %", async () => {
    const graphmill = new GraphmillClient({ baseUrl: server, apiKey });
    const text = "John Backus was born in Philadelphia. He worked at IBM in New York City. ".repeat(400);
    const batch = await graphmill.submit({ documents: [{ id: "long", text }] });
    let execution;
    for await (const event of graphmill.followBatch(batch.batch_id)) {
        if (event.type !== "DocumentStarted") continue;
        execution = event.workflowExecutionId;
        break;
    }
    const broken = { left: 2 };
    const pages = site(execution, broken).listen(0, "127.0.0.1");
    await new Promise((resolve) => pages.once("listening", resolve));
    const browser = await Chromium.start();
    try {
        const page = await browser.open(`http://127.0.0.1:${pages.address().port}/`);
        await page.until("/^100 % .* ended/.test(document.querySelector('#says')?.innerText)");
        assert.match(await page.text(), /^100 % assemble ended/);
        const seen = await page.value("seen");
        assert.ok(seen.every((percent, at) => at === 0 || percent >= seen[at - 1]), String(seen));
        assert.equal(await page.value("document.querySelector('progress').value"), 100);
        if (process.env.GRAPHMILL_SCREENSHOTS) {
            await page.screenshot(join(process.env.GRAPHMILL_SCREENSHOTS, "hook.png"));
        }
    } finally {
        await browser.close();
        pages.closeAllConnections();
        pages.close();
    }
});
