import { backoff, sleep, type BackoffOptions } from "./backoff.js";
import { GraphmillError } from "./problem.js";
import { messages } from "./sse.js";

/** How a log is followed. */
export interface FollowOptions {
    /** The position after which to begin: `"0"` is the beginning of the log. */
    after?: string;
    /** Ends it, without an error. */
    signal?: AbortSignal;
    /** Waits between connections that fail. */
    backoff?: BackoffOptions;
    /** Milliseconds of silence after which a connection is taken for dead: the server says something every 15 s. Default 40,000. */
    silence?: number;
    /** Streams that fail in a row until the log is polled instead. Default 3. */
    pollAfter?: number;
    /** Milliseconds between two polls. Default 2,000. */
    pollEvery?: number;
    /** How it is connected now. */
    onConnection?: (state: "connecting" | "live" | "polling" | "ended") => void;
    /** A position that has been handed out: what to begin after if the page is opened again. */
    onPosition?: (position: string) => void;
    /** What went wrong, and is tried again. */
    onTrouble?: (error: GraphmillError) => void;
}

/** Opens a connection: what is accepted, the position after which to begin, and what ends it. */
export type Connection = (
    accept: "text/event-stream" | "application/json",
    after: string | undefined,
    signal: AbortSignal,
) => Promise<Response>;

/** Streams are tried again after so many polls. */
const POLLS = 15;

/** An answer to a poll. */
interface Page {
    /** How it stands, if no position was given. */
    snapshot?: unknown;
    /** What has happened since. */
    events: unknown[];
    /** The position to go on after. */
    next: number;
    /** Nothing more will come. */
    ended: boolean;
}

/** The values of a log, in order, each once, until no more will come. */
export async function* connect<T>(open: Connection, options: FollowOptions): AsyncGenerator<T, void, undefined> {
    const leave = new AbortController();
    const left = (): void => leave.abort();
    options.signal?.addEventListener("abort", left);
    if (options.signal?.aborted === true) left();
    const log = new Log<T>(open, options, leave.signal);
    try {
        yield* log.values();
    } finally {
        left();
        options.signal?.removeEventListener("abort", left);
        options.onConnection?.("ended");
    }
}

class Log<T> {
    private position: string | undefined;
    /** Milliseconds that the server asks to wait between connections. */
    private retry: number | undefined;
    /** In a row. */
    private failures = 0;
    private ended = false;

    constructor(
        private readonly open: Connection,
        private readonly options: FollowOptions,
        private readonly left: AbortSignal,
    ) {
        this.position = options.after;
    }

    async *values(): AsyncGenerator<T, void, undefined> {
        const pollAfter = this.options.pollAfter ?? 3;
        while (!this.left.aborted && !this.ended) {
            try {
                if (this.failures >= pollAfter) yield* this.polled();
                else yield* this.streamed();
            } catch (error) {
                if (this.left.aborted) return;
                await this.failed(error);
            }
        }
    }

    /** One connection; returns when the server has closed it. */
    private async *streamed(): AsyncGenerator<T, void, undefined> {
        this.options.onConnection?.("connecting");
        const connection = new AbortController();
        const cut = (): void => connection.abort();
        this.left.addEventListener("abort", cut);
        const silence = this.options.silence ?? 40_000;
        let watch = setTimeout(cut, silence);
        const heard = (): void => {
            clearTimeout(watch);
            watch = setTimeout(cut, silence);
        };
        try {
            const response = await this.open("text/event-stream", this.position, connection.signal);
            if (response.status === 204) {
                this.ended = true;
                return;
            }
            if (!response.ok) throw await GraphmillError.of(response);
            const type = response.headers.get("content-type") ?? "";
            if (response.body === null || !type.startsWith("text/event-stream")) {
                await response.body?.cancel();
                throw new GraphmillError(`a proxy answered with ${type || "nothing"} instead of a stream`, 0);
            }
            heard();
            this.options.onConnection?.("live");
            let told = false;
            for await (const message of messages(response.body, heard)) {
                if (message.retry !== undefined) this.retry = message.retry;
                if (message.data === "") continue;
                told = true;
                this.failures = 0;
                yield JSON.parse(message.data) as T;
                // Only now: a position that was kept and whose value was not handed out would be a gap.
                this.reached(message.id);
            }
            // Closed in good order: at the end of what is followed, which the next answer says, or with the server.
            if (told) return;
        } finally {
            clearTimeout(watch);
            this.left.removeEventListener("abort", cut);
            cut();
        }
        throw new GraphmillError("the stream was closed before anything came", 0);
    }

    /** The log in pages, for a while. */
    private async *polled(): AsyncGenerator<T, void, undefined> {
        this.options.onConnection?.("polling");
        for (let poll = 0; poll < POLLS && !this.left.aborted; poll++) {
            const response = await this.open("application/json", this.position, this.left);
            if (!response.ok) throw await GraphmillError.of(response);
            const page = (await response.json()) as Page;
            const values = page.snapshot === undefined ? page.events : [page.snapshot, ...page.events];
            // A page has one position for all of it: whoever leaves within it is told some of it again.
            for (const value of values) yield value as T;
            this.reached(String(page.next));
            if (page.ended && values.length === 0) {
                this.ended = true;
                return;
            }
            if (values.length === 0) await sleep(this.options.pollEvery ?? 2_000, this.left);
        }
        // Perhaps streams get through again: one more try, and polling again if not.
        this.failures = Math.max((this.options.pollAfter ?? 3) - 1, 0);
    }

    private reached(position: string | undefined): void {
        if (position === undefined || position === "" || position === this.position) return;
        this.position = position;
        this.options.onPosition?.(position);
    }

    private async failed(error: unknown): Promise<void> {
        const trouble =
            error instanceof GraphmillError
                ? error
                : new GraphmillError("the server was not reached", 0, undefined, undefined, error);
        if (!trouble.retryable) throw trouble;
        this.failures++;
        this.options.onTrouble?.(trouble);
        const wait = Math.max(trouble.retryAfter ?? 0, this.failures === 1 ? (this.retry ?? 0) : 0);
        await sleep(Math.max(wait, backoff(this.failures, this.options.backoff)), this.left);
    }
}
