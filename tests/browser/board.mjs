// The board in headless Chromium: shows each page and waits until it says what is expected of it.
//
// GRAPHMILL_BOARD: its address. GRAPHMILL_API_KEY: whose. GRAPHMILL_PAGES: JSON, a list of
// { path, shows: [text…], lacks: [text…] }; texts are compared with all white space as one blank.
// GRAPHMILL_SCREENSHOTS: a folder, if pictures are wanted.

import { Chromium } from "./chromium.mjs";

const { GRAPHMILL_BOARD: address, GRAPHMILL_API_KEY: key, GRAPHMILL_SCREENSHOTS: folder } = process.env;
const pages = JSON.parse(process.env.GRAPHMILL_PAGES);
const plain = (text) => text.replace(/\s+/g, " ");

const browser = await Chromium.start();
try {
    // A browser asks for the name and the password once; from then on it sends them with all that it loads from here.
    const asked = new URL(address);
    asked.username = "anybody";
    asked.password = key;
    const page = await browser.open(asked.href);
    // The page itself can't load anything by an address that has a password in it.
    await page.until(`document.readyState === "complete" && document.title === "graphmill board"`);
    for (const [number, { path, shows, lacks = [] }] of pages.entries()) {
        // One page after the other: each holds one of the six connections that a browser makes.
        await page.value(`location.assign(${JSON.stringify(new URL(path, address).href)})`);
        const wanted = JSON.stringify(shows.map(plain));
        await page.until(`(() => {
            const text = document.body.innerText.replace(/\\s+/g, " ");
            return location.pathname === ${JSON.stringify(path)} && ${wanted}.every((wanted) => text.includes(wanted));
        })()`).catch((error) => {
            throw new Error(`${path} does not show all of ${wanted}: ${error.message}`);
        });
        const text = plain(await page.text());
        if (folder !== undefined) await page.screenshot(`${folder}/${number}${path.replaceAll("/", "-")}.png`);
        for (const unwanted of lacks) {
            if (text.includes(unwanted)) throw new Error(`${path} shows ${unwanted}:\n${text}`);
        }
        console.log(JSON.stringify({ path, text }));
    }
} finally {
    await browser.close();
}
