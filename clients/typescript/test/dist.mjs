// The client as it is published: compiled by whoever runs these tests.

import { join } from "node:path";
import { pathToFileURL } from "node:url";

export const folder = process.env.GRAPHMILL_CLIENT_DIST ?? join(import.meta.dirname ?? ".", "../dist");
export const load = (file) => import(pathToFileURL(join(folder, file)).href);
export const server = process.env.GRAPHMILL_URL;
export const apiKey = process.env.GRAPHMILL_API_KEY;
