/** How long to wait between tries, in milliseconds. */
export interface BackoffOptions {
    /** After the first failure. Default 500. */
    first?: number;
    /** At most. Default 30,000. */
    most?: number;
}

/**
 * The wait after `failures` failures in a row (from 1): doubled each time, capped, and drawn between half of it and all
 * of it, so that clients that lost the same server do not come back at the same moment.
 */
export function backoff(failures: number, options: BackoffOptions = {}, random: () => number = Math.random): number {
    const { first = 500, most = 30_000 } = options;
    const whole = Math.min(most, first * 2 ** Math.min(Math.max(failures, 1) - 1, 20));
    return whole / 2 + (whole / 2) * random();
}

/** Waits, or ends at once with the signal. Never rejects. */
export function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
        if (signal.aborted) return resolve();
        const done = (): void => {
            clearTimeout(timer);
            signal.removeEventListener("abort", done);
            resolve();
        };
        const timer = setTimeout(done, milliseconds);
        signal.addEventListener("abort", done);
    });
}
