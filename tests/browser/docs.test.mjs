// The docs page in headless Chromium: it shows every route that the server describes, and what belongs to each.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Chromium } from "./chromium.mjs";

const server = process.env.GRAPHMILL_URL;
const browser = await Chromium.start();
after(() => browser.close());

test("the page shows every route", async () => {
    const described = await (await fetch(`${server}/openapi.json`)).json();
    const wanted = Object.entries(described.paths)
        .flatMap(([path, item]) => Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`))
        .sort();
    assert.ok(wanted.length > 30, `${wanted.length} routes`);
    const page = await browser.open(`${server}/docs`);
    await page.until("document.readyState === 'complete' && document.querySelector('details') !== null");
    const shown = await page.value(`
        [...document.querySelectorAll("details > summary")]
            .filter((summary) => summary.offsetHeight > 0 && summary.querySelector("b") !== null)
            .map((summary) => summary.querySelector("b").innerText + " " + summary.querySelector("code").innerText)
            .sort()`);
    assert.deepEqual(shown, wanted);
    await page.value(`document.querySelectorAll("details").forEach((details) => { details.open = true; })`);
    const hidden = await page.value(`
        [...document.querySelectorAll("details")].filter((details) => details.querySelector("table, pre").offsetHeight === 0)
            .map((details) => details.innerText.slice(0, 80))`);
    assert.deepEqual(hidden, []);
    const raw = await page.value(`
        [...document.querySelectorAll("p, td, summary")].map((part) => part.innerText).filter((text) => text.includes("\`"))`);
    assert.deepEqual(raw, [], "code is shown as code");
    const links = await page.value(`
        [...document.querySelectorAll("a[href^='#']")].map((link) => link.getAttribute("href").slice(1))
            .filter((id) => document.getElementById(id) === null)`);
    assert.deepEqual(links, [], "links lead somewhere");
    const loaded = await page.value(`performance.getEntriesByType("resource").map((entry) => entry.name)
        .filter((name) => !name.endsWith("/favicon.ico"))`);
    assert.deepEqual(loaded, [], "the page needs nothing from anywhere");
});
