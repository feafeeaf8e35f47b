/** The stages of a document, and `resolve`, which is a batch's. */
export type Stage = "chunk" | "mentions" | "entities" | "relations" | "assemble" | "resolve";

/** What can be asked of a batch. */
export type Signal = "cancel" | "pause" | "resume" | "retry";

/** What a graph can be had as. */
export type ExportFormat = "json" | "csv" | "turtle" | "json-ld" | "graphml" | "cypher";

/** A text to extract from. */
export interface Document {
    /** Your id of it, unique in the batch. */
    id: string;
    text: string;
    title?: string;
    source_uri?: string;
    metadata?: unknown;
}

/** A batch to submit. */
export interface NewBatch {
    documents: Document[];
    /** Unique in the organization; made up without it. */
    name?: string;
    /** The server's default without it. */
    extractor?: string;
    /** Documents worked at once, 1 to 10,000. */
    concurrency?: number;
    failure_policy?: "continue-on-failure" | "abort-all" | "retry-failed";
    max_retries?: number;
    /** Documents that may be given up: a number, or a share such as `5%`. */
    max_failures?: string;
    /** Its share among batches that run at the same time. */
    weight?: number;
    partial?: "complete" | "fail";
    /** Whom to tell of its end. */
    notify?: string;
    /** Keeps it open for more documents. */
    open?: boolean;
}

/** Documents of a batch. */
export interface DocumentCounts {
    total: number;
    completed: number;
    partial: number;
    failed: number;
    abandoned: number;
    cancelled: number;
    refused: number;
    duplicate: number;
}

/** So much of so much; `percent` is 100 only when all is done. */
export interface Done {
    current: number;
    total: number;
    percent: number;
}

/** How far a batch is. */
export interface BatchProgress {
    documents: Done;
    in_work: number;
    waiting: number;
    stages: (Done & { stage: Stage })[];
    documents_per_minute: number | null;
    seconds_left: number | null;
}

/** Why a document or a unit came to nothing. */
export interface Failure {
    code: string;
    message: string;
    retryable?: boolean;
}

/** A batch. A newer server may say more than this. */
export interface Batch {
    batch_id: string;
    name: string;
    state: string;
    open?: boolean;
    documents: DocumentCounts;
    entities: number;
    relations: number;
    clusters: number;
    duration_ms: number;
    failures: { document: string; code: string; message: string }[];
    /** With a single batch. */
    generation?: number;
    paused?: string | null;
    stage?: Stage | null;
    progress?: BatchProgress;
    [field: string]: unknown;
}

/** A page of batches, the newest first. */
export interface BatchList {
    batches: Batch[];
    /** What to ask for `after`, if there are more. */
    next?: string | null;
}

/** What became of added documents. */
export interface Changed {
    batch_id: string;
    added: number;
    replaced: number;
    unchanged: number;
    refused: { document: string; code: string; message: string }[];
}

/** What became of a removal: 0 if it was removed before. */
export interface Removed {
    batch_id: string;
    removed: number;
}

/** How a stage stands. */
export type ProgressStatus = "started" | "in_progress" | "completed" | "failed";

/** How far an execution is. */
export interface Progress {
    workflowExecutionId: string;
    batchId: string;
    stage: Stage;
    status: ProgressStatus;
    /** Percent of the whole, 0 to 100. */
    progress: number;
    /** Units of the stage that are through. */
    current: number;
    /** Units of the stage. */
    total: number;
    entityCount?: number;
    relationCount?: number;
    /** RFC 3339. */
    timestamp: string;
}

/** What every event says. */
export interface Logged {
    version: number;
    /** Its place in the log: what to go on after. */
    position: number;
    batchId: string;
    /** None: it is the batch's. */
    workflowExecutionId: string | null;
    /** RFC 3339, by the database's clock. */
    timestamp: string;
    /** How its execution's stage stands by it, where it says so. */
    status?: ProgressStatus;
    /** Percent of its execution, where it says so. */
    progress?: number;
}

/** What has happened. A newer server may tell of more, and more of each. */
export type EventDetail =
    | { type: "BatchCreated"; name: string }
    | { type: "DocumentsAdded"; accepted: number; refused: number; duplicate: number }
    | { type: "DocumentReplaced"; document: string; by?: string }
    | { type: "DocumentRemoved"; document: string }
    | { type: "BatchKeptOpen" }
    | { type: "BatchSealed" }
    | { type: "DocumentStarted" }
    | { type: "StageProgress"; stage: Stage; current: number; total: number }
    | { type: "StageCompleted"; stage: Stage; units: number; failedUnits: number }
    | { type: "StageRetried"; stage: Stage; failure: Failure; waitMs: number }
    | { type: "DocumentCompleted"; partial: boolean; entities: number; relations: number }
    | { type: "DocumentFailed"; failure: Failure }
    | { type: "DocumentRevived"; round: number }
    | { type: "DocumentAbandoned"; failure: Failure }
    | { type: "DocumentCancelled" }
    | { type: "DocumentPaused" }
    | { type: "DocumentResumed" }
    | { type: "ResolutionStarted" }
    | { type: "ResolutionCompleted"; clusters: number }
    | { type: "ResolutionAbandoned"; failure: Failure }
    | { type: "ClustersChanged"; clusters: number }
    | { type: "StageEntered"; stage: Stage }
    | { type: "BatchPaused"; reason: string }
    | { type: "BatchResumed" }
    | { type: "RateLimited"; model: string; cause: "server" | "requests" | "tokens"; waitMs: number }
    | { type: "BreakerOpened"; model: string; failures: number; waitMs: number }
    | { type: "BreakerProbed"; model: string }
    | { type: "BreakerClosed"; model: string }
    | { type: "BatchRetried"; generation: number; abandoned: number; cancelled: number; partial: number }
    | { type: "BatchReopened"; generation: number }
    | { type: "BatchRerun"; generation: number; from: Stage }
    | { type: "BatchCompleted" }
    | { type: "BatchFailed"; failure: Failure }
    | { type: "BatchCancelled" };

/** An event of the log. */
export type GraphmillEvent = Logged & EventDetail;
