/** A React hook for progress. React is the caller's own. */

import { useEffect, useState } from "react";

import { GraphmillClient } from "./client.js";
import type { FollowOptions } from "./follow.js";
import { GraphmillError } from "./problem.js";
import type { Progress } from "./types.js";

/** How a hook follows. */
export interface UseWorkflowProgressOptions extends Omit<FollowOptions, "signal" | "onConnection"> {
    /** Default: a client of the server that the page is from. Keep it between renders, or it is followed anew. */
    client?: GraphmillClient;
}

/** What a hook knows. */
export interface WorkflowProgress {
    /** The newest news; none before the first. */
    progress: Progress | undefined;
    /** 0 to 100, for a bar. */
    percent: number;
    /** How the server is heard. */
    connection: "idle" | "connecting" | "live" | "polling" | "ended";
    /** Why it is followed no more, or what is being tried again. */
    error: GraphmillError | undefined;
}

const NOTHING: WorkflowProgress = { progress: undefined, percent: 0, connection: "idle", error: undefined };
let own: GraphmillClient | undefined;

/**
 * How far an execution is, live: lost connections are made again with growing waits, and where streams do not get
 * through, the log is polled. `null` or `undefined` follows nothing.
 *
 * ```tsx
 * const { progress, percent, connection } = useWorkflowProgress(executionId);
 * ```
 */
export function useWorkflowProgress(
    executionId: string | null | undefined,
    options: UseWorkflowProgressOptions = {},
): WorkflowProgress {
    const [state, setState] = useState(NOTHING);
    const client = options.client ?? (own ??= new GraphmillClient());
    useEffect(() => {
        setState(NOTHING);
        if (executionId === null || executionId === undefined) return;
        const leave = new AbortController();
        const change = (news: Partial<WorkflowProgress>): void => {
            if (!leave.signal.aborted) setState((before) => ({ ...before, ...news }));
        };
        const follow = async (): Promise<void> => {
            const following = client.followProgress(executionId, {
                ...options,
                signal: leave.signal,
                onConnection: (connection) => change(connection === "live" ? { connection, error: undefined } : { connection }),
                onTrouble: (error) => {
                    change({ error });
                    options.onTrouble?.(error);
                },
            });
            for await (const progress of following) change({ progress, percent: progress.progress });
        };
        follow().catch((error: unknown) => {
            const trouble = error instanceof GraphmillError ? error : new GraphmillError(String(error), 0);
            change({ error: trouble, connection: "ended" });
        });
        return () => leave.abort();
        // Options that are written in place are new at every render: only who is followed, and through whom, counts.
    }, [executionId, client]);
    return state;
}
