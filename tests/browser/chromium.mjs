// Headless Chromium over its debugging pipe: no port, and nothing to install besides the browser.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Milliseconds that a page may take to come to what is waited for. */
const PATIENCE = 60_000;

export class Chromium {
    /** Starts a browser with an empty profile of its own. */
    static async start() {
        const profile = mkdtempSync(join(tmpdir(), "graphmill-chromium-"));
        const flags = [
            "--headless=new", "--remote-debugging-pipe", `--user-data-dir=${profile}`, "--disable-gpu",
            "--disable-dev-shm-usage", "--no-first-run", "--no-default-browser-check", "--window-size=1280,900",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            // Its sandbox wants rights that containers and root do not have; it opens our own pages only.
            "--no-sandbox",
        ];
        const child = spawn(process.env.CHROMIUM ?? "chromium", flags, {
            stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
        });
        const browser = new Chromium(child, profile);
        await browser.send("Browser.getVersion");
        return browser;
    }

    constructor(child, profile) {
        this.child = child;
        this.profile = profile;
        this.asked = new Map();
        this.number = 0;
        this.gone = new Promise((resolve) => child.on("exit", resolve));
        let rest = "";
        child.stdio[4].setEncoding("utf8").on("data", (text) => {
            const parts = (rest + text).split("\0");
            rest = parts.pop();
            for (const part of parts) this.heard(JSON.parse(part));
        });
        const fail = (error) => {
            for (const { reject } of this.asked.values()) reject(error);
            this.asked.clear();
        };
        child.on("error", (error) => fail(new Error(`no browser: ${error.message}`)));
        child.on("exit", () => fail(new Error("the browser is gone")));
        child.stdio[3].on("error", () => {});
    }

    heard(message) {
        const asked = this.asked.get(message.id);
        if (asked === undefined) return;
        this.asked.delete(message.id);
        if (message.error !== undefined) asked.reject(new Error(message.error.message));
        else asked.resolve(message.result);
    }

    send(method, params = {}, sessionId = undefined) {
        const id = ++this.number;
        return new Promise((resolve, reject) => {
            this.asked.set(id, { resolve, reject });
            this.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
        });
    }

    /** Opens a page. */
    async open(url) {
        const { targetId } = await this.send("Target.createTarget", { url });
        const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
        return new Page(this, sessionId);
    }

    async close() {
        await Promise.race([this.send("Browser.close").catch(() => {}), this.gone]);
        const kill = setTimeout(() => this.child.kill("SIGKILL"), 5_000);
        await this.gone;
        clearTimeout(kill);
        rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
    }
}

class Page {
    constructor(browser, session) {
        this.browser = browser;
        this.session = session;
    }

    /** What an expression comes to on the page. */
    async value(expression) {
        const said = await this.browser.send(
            "Runtime.evaluate",
            { expression, returnByValue: true, awaitPromise: true },
            this.session,
        );
        if (said.exceptionDetails !== undefined) {
            throw new Error(said.exceptionDetails.exception?.description ?? said.exceptionDetails.text);
        }
        return said.result.value;
    }

    /** Waits until an expression is true; says what the page shows if it never is. */
    async until(expression) {
        const end = Date.now() + PATIENCE;
        while (Date.now() < end) {
            // While a page is being loaded there is nothing to ask.
            const value = await this.value(expression).catch(() => false);
            if (value) return value;
            await new Promise((resolve) => setTimeout(resolve, 50));
        }
        throw new Error(`in vain: ${expression}\n${await this.text()}`);
    }

    text() {
        return this.value("document.body.innerText");
    }

    /** Writes what is to be seen as a PNG. */
    async screenshot(path) {
        const { data } = await this.browser.send("Page.captureScreenshot", { format: "png" }, this.session);
        writeFileSync(path, Buffer.from(data, "base64"));
    }
}
