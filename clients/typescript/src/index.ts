/**
 * A client of graphmill's HTTP API: submit documents, follow them live, read the graph.
 *
 * No dependencies: `fetch` and streams, as browsers and Node 18 have them.
 */

export { GraphmillClient } from "./client.js";
export type { ClientOptions, RequestOptions } from "./client.js";
export { GraphmillError } from "./problem.js";
export type { Problem } from "./problem.js";
export { backoff } from "./backoff.js";
export type { BackoffOptions } from "./backoff.js";
export type { FollowOptions } from "./follow.js";
export type {
    Batch,
    BatchList,
    BatchProgress,
    Changed,
    Document,
    DocumentCounts,
    Done,
    EventDetail,
    ExportFormat,
    Failure,
    GraphmillEvent,
    Logged,
    NewBatch,
    Progress,
    ProgressStatus,
    Removed,
    Signal,
    Stage,
} from "./types.js";
