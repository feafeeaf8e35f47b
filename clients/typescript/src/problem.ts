/** What a server says of a request that it does not answer: RFC 9457. */
export interface Problem {
    status: number;
    title?: string;
    detail?: string;
    instance?: string;
    request_id?: string;
    [member: string]: unknown;
}

/** A request that came to nothing. `retryable` says whether the same request may succeed later. */
export class GraphmillError extends Error {
    /** The HTTP status; 0 if there was no answer at all. */
    readonly status: number;
    /** What the server says. */
    readonly problem: Problem | undefined;
    /** Milliseconds that the server asks to wait. */
    readonly retryAfter: number | undefined;

    constructor(message: string, status: number, problem?: Problem, retryAfter?: number, cause?: unknown) {
        super(message);
        this.name = "GraphmillError";
        this.status = status;
        this.problem = problem;
        this.retryAfter = retryAfter;
        if (cause !== undefined) {
            Object.defineProperty(this, "cause", { value: cause, configurable: true });
        }
    }

    /** Whether trying again may help. */
    get retryable(): boolean {
        return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
    }

    /** Of an answer that is an error. */
    static async of(response: Response): Promise<GraphmillError> {
        let problem: Problem | undefined;
        try {
            const body: unknown = await response.json();
            if (typeof body === "object" && body !== null) {
                problem = { status: response.status, ...(body as object) };
            }
        } catch {
            // A proxy's page, or a connection that broke: the status says enough.
        }
        const said = problem?.detail ?? problem?.title ?? response.statusText;
        return new GraphmillError(`${response.status}: ${said}`, response.status, problem, waitOf(response));
    }
}

function waitOf(response: Response): number | undefined {
    const header = response.headers.get("retry-after");
    if (header === null) return undefined;
    const seconds = Number(header);
    const wait = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - Date.now();
    return Number.isFinite(wait) && wait >= 0 ? wait : undefined;
}
