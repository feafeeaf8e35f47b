import { connect, type Connection, type FollowOptions } from "./follow.js";
import { GraphmillError } from "./problem.js";
import type {
    Batch,
    BatchList,
    Changed,
    Document,
    ExportFormat,
    GraphmillEvent,
    NewBatch,
    Progress,
    Removed,
    Signal,
} from "./types.js";

/** How a server is reached. */
export interface ClientOptions {
    /** Where the server is, for example `https://graph.example.org`. In a browser, default: where the page is from. */
    baseUrl?: string;
    /** An API key. Not for pages: whoever opens one could read it. */
    apiKey?: string;
    /**
     * A short-lived token for one stream, for pages: asked for before every connection, with the path of the stream.
     * Your own server gets it by `POST /api/stream-tokens`.
     */
    streamToken?: (path: string) => Promise<string>;
    /** Headers of every request, for proxies that want them. */
    headers?: Record<string, string>;
    /** Milliseconds that a request may take, streams and exports aside. Default 60,000. */
    timeout?: number;
    /** What requests are made with. Default: the global `fetch`. */
    fetch?: typeof fetch;
}

/** Of one request. */
export interface RequestOptions {
    /** Ends it. */
    signal?: AbortSignal;
    /** The same key and the same body are one request, however often they are sent. */
    idempotencyKey?: string;
}

/** A client; it holds no connection, and may be used by many at once. */
export class GraphmillClient {
    private readonly base: string;
    private readonly options: ClientOptions;

    constructor(options: ClientOptions = {}) {
        this.base = (options.baseUrl ?? "").replace(/\/+$/, "");
        this.options = options;
    }

    /** Submits documents. Once this resolves, all of them are durable. Rejects with {@link GraphmillError}. */
    submit(batch: NewBatch, options: RequestOptions = {}): Promise<Batch> {
        return this.json("POST", "/api/batches", options, batch);
    }

    /** The newest batches. */
    batches(query: { limit?: number; after?: string } = {}, options: RequestOptions = {}): Promise<BatchList> {
        const parameters = new URLSearchParams();
        if (query.limit !== undefined) parameters.set("limit", String(query.limit));
        if (query.after !== undefined) parameters.set("after", query.after);
        const asked = parameters.toString();
        return this.json("GET", asked === "" ? "/api/batches" : `/api/batches?${asked}`, options);
    }

    /** A batch by its id or its name. */
    batch(batch: string, options: RequestOptions = {}): Promise<Batch> {
        return this.json("GET", `/api/batches/${encodeURIComponent(batch)}`, options);
    }

    /** Adds documents to a batch that is open or has ended; those it has with another text are replaced. */
    addDocuments(batch: string, documents: Document[], options: RequestOptions = {}): Promise<Changed> {
        return this.json("POST", `/api/batches/${encodeURIComponent(batch)}/documents`, options, { documents });
    }

    /** Takes a document out of a batch, with all that was found in it. */
    removeDocument(batch: string, document: string, options: RequestOptions = {}): Promise<Removed> {
        const path = `/api/batches/${encodeURIComponent(batch)}/documents/${encodeURIComponent(document)}`;
        return this.json("DELETE", path, options);
    }

    /** Says that no more documents will come. */
    seal(batch: string, options: RequestOptions = {}): Promise<Batch> {
        return this.json("POST", `/api/batches/${encodeURIComponent(batch)}/seal`, options);
    }

    /** Stops, pauses or resumes a batch, or tries again what failed in it. */
    signal(batch: string, signal: Signal, options: RequestOptions = {}): Promise<Batch> {
        return this.json("POST", `/api/batches/${encodeURIComponent(batch)}/${signal}`, options);
    }

    /** The graph of a batch, as a stream of bytes: it may be larger than memory. */
    async exportBatch(
        batch: string,
        format: ExportFormat = "json",
        options: RequestOptions = {},
    ): Promise<ReadableStream<Uint8Array>> {
        const path = `/api/batches/${encodeURIComponent(batch)}/export?format=${format}`;
        const response = await this.send("GET", path, options.signal, this.headers({}));
        if (response.body === null) throw new GraphmillError("the server sent no graph", response.status);
        return response.body;
    }

    /**
     * The events of a batch, in order, each once, from `after` or from the beginning, until the batch has ended. Lost
     * connections are made again where they broke off; where streams do not get through, the log is polled.
     *
     * ```ts
     * for await (const event of client.followBatch(id)) console.log(event.type);
     * ```
     *
     * Ends by `break`, by the signal, or with the batch; rejects with {@link GraphmillError} where trying again does
     * not help.
     */
    followBatch(batch: string, options: FollowOptions = {}): AsyncGenerator<GraphmillEvent, void, undefined> {
        const path = `/api/batches/${encodeURIComponent(batch)}/events`;
        return this.follow<GraphmillEvent>(path, { after: "0", ...options });
    }

    /** The events of one document's execution, as {@link followBatch}. */
    followExecution(execution: string, options: FollowOptions = {}): AsyncGenerator<GraphmillEvent, void, undefined> {
        const path = `/api/executions/${encodeURIComponent(execution)}/events`;
        return this.follow<GraphmillEvent>(path, { after: "0", ...options });
    }

    /** How far one document's execution is: how it stands first, then as {@link followBatch}. */
    followProgress(execution: string, options: FollowOptions = {}): AsyncGenerator<Progress, void, undefined> {
        return this.follow<Progress>(`/api/workflows/${encodeURIComponent(execution)}/progress`, options);
    }

    /** How far a batch and its documents are: how it stands first, then as {@link followBatch}. */
    followBatchProgress(batch: string, options: FollowOptions = {}): AsyncGenerator<Progress, void, undefined> {
        return this.follow<Progress>(`/api/knowledge/extraction/progress/${encodeURIComponent(batch)}`, options);
    }

    private follow<T>(path: string, options: FollowOptions): AsyncGenerator<T, void, undefined> {
        const open: Connection = async (accept, after, signal) => {
            let address = path;
            const headers: Record<string, string> = { accept };
            const parameters = new URLSearchParams();
            if (after !== undefined) {
                // A header of its own would make a browser ask for leave first.
                parameters.set("after", after);
            }
            if (this.options.streamToken !== undefined) parameters.set("token", await this.options.streamToken(path));
            const asked = parameters.toString();
            if (asked !== "") address += `?${asked}`;
            return this.request("GET", address, signal, this.headers(headers));
        };
        return connect<T>(open, options);
    }

    private headers(own: Record<string, string>): Record<string, string> {
        const headers: Record<string, string> = { ...this.options.headers, ...own };
        if (this.options.apiKey !== undefined) headers["authorization"] = `Bearer ${this.options.apiKey}`;
        return headers;
    }

    private async json<T>(method: string, path: string, options: RequestOptions, body?: unknown): Promise<T> {
        const headers: Record<string, string> = { accept: "application/json" };
        if (body !== undefined) headers["content-type"] = "application/json";
        if (options.idempotencyKey !== undefined) headers["idempotency-key"] = options.idempotencyKey;
        const limit = new AbortController();
        const timer = setTimeout(() => limit.abort(), this.options.timeout ?? 60_000);
        const leave = (): void => limit.abort();
        options.signal?.addEventListener("abort", leave);
        if (options.signal?.aborted === true) leave();
        try {
            const text = body === undefined ? undefined : JSON.stringify(body);
            const response = await this.send(method, path, limit.signal, this.headers(headers), text);
            return (await response.json()) as T;
        } catch (error) {
            if (error instanceof GraphmillError || options.signal?.aborted === true) throw error;
            throw new GraphmillError(`${method} ${path} was not answered`, 0, undefined, undefined, error);
        } finally {
            clearTimeout(timer);
            options.signal?.removeEventListener("abort", leave);
        }
    }

    private async send(
        method: string,
        path: string,
        signal: AbortSignal | undefined,
        headers: Record<string, string>,
        body?: string,
    ): Promise<Response> {
        const response = await this.request(method, path, signal, headers, body);
        if (!response.ok) throw await GraphmillError.of(response);
        return response;
    }

    private request(
        method: string,
        path: string,
        signal: AbortSignal | undefined,
        headers: Record<string, string>,
        body?: string,
    ): Promise<Response> {
        const wire = this.options.fetch ?? fetch;
        const request: RequestInit = { method, headers, cache: "no-store" };
        if (signal !== undefined) request.signal = signal;
        if (body !== undefined) request.body = body;
        return wire(this.base + path, request);
    }
}
