//! What the keys of a stage's queue are called.
//!
//! Knows the layout of apalis-redis, from its own `Config`, and which job type belongs to which stage. Must not
//! talk to Redis. Invariant: a key is named here and nowhere else.

use apalis_redis::Config;

use crate::flow::Stage;

/// Runs `$body` with `$job` standing for the stage's job type.
macro_rules! with_job {
    ($stage:expr, $job:ident => $body:expr) => {
        match $stage {
            $crate::flow::Stage::Chunk => {
                type $job = ::graphmill_jobs::ChunkText;
                $body
            }
            $crate::flow::Stage::Mentions => {
                type $job = ::graphmill_jobs::ExtractMentions;
                $body
            }
            $crate::flow::Stage::Entities => {
                type $job = ::graphmill_jobs::ClassifyEntities;
                $body
            }
            $crate::flow::Stage::Relations => {
                type $job = ::graphmill_jobs::ExtractRelations;
                $body
            }
            $crate::flow::Stage::Assemble => {
                type $job = ::graphmill_jobs::AssembleGraph;
                $body
            }
            $crate::flow::Stage::Resolve => {
                type $job = ::graphmill_jobs::Resolve;
                $body
            }
        }
    };
}
pub(super) use with_job;

/// A random value that lives as long as the data set: see [`Queue::incarnation`](super::Queue::incarnation).
pub(super) const SENTINEL: &str = "graphmill:sentinel";

/// Jobs that nobody can run, newest first.
pub(super) const SET_ASIDE: &str = "graphmill:set-aside";

/// How many of them are kept.
pub(super) const SET_ASIDE_KEPT: usize = 1000;

/// Where the board looks for queues. **Source:** apalis-redis 1.0.0, `lua/register_worker.lua`.
pub(super) const QUEUES: &str = "core:apalis:queues:list";

/// The keys of one stage's queue.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// The queue's own name, which all of its keys begin with.
    pub(super) queue: &'static str,
    /// LIST of the ids that wait.
    pub(super) active: String,
    /// LIST of the ids that are to be taken before those of `active`.
    pub(super) first: String,
    /// HASH id → payload.
    pub(super) data: String,
    /// Prefix of the HASH of each id.
    pub(super) meta: String,
    /// ZSET id → Unix seconds; ours stays empty, but stock producers push there.
    pub(super) scheduled: String,
    /// ZSET worker → Unix seconds of its last heartbeat, on Redis' clock.
    pub(super) workers: String,
    /// Prefix of the SET of ids that a worker holds.
    pub(super) inflight: String,
    /// Prefix of the HASH about a worker.
    pub(super) metadata: String,
    /// Where a push is announced. **Source:** apalis-redis 1.0.0, `lua/batch_push.lua`.
    pub(super) channel: String,
    /// Where a push to the front is announced.
    pub(super) first_channel: String,
}

impl Keys {
    /// The keys of `stage`'s queue.
    pub(super) fn of(stage: Stage) -> Self {
        let queue = with_job!(stage, Job => <Job as graphmill_jobs::StageJob>::QUEUE);
        let config = Config::default().queue(queue);
        let active = config.active_jobs_list();
        Self {
            queue,
            first: format!("{queue}:first"),
            data: config.job_data_hash(),
            meta: config.job_meta_hash(),
            scheduled: config.scheduled_jobs_set(),
            workers: config.workers_set(),
            inflight: config.inflight_jobs_set(),
            metadata: format!("{}:metadata", config.workers_set()),
            channel: format!("tasks:{active}:available"),
            first_channel: format!("tasks:{queue}:first:available"),
            active,
        }
    }

    /// The SET of ids that `worker` holds.
    pub(super) fn inflight_of(&self, worker: &str) -> String {
        format!("{}:{worker}", self.inflight)
    }

    /// The HASH about `worker`.
    pub(super) fn metadata_of(&self, worker: &str) -> String {
        format!("{}:{worker}", self.metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_one_that_producers_in_other_languages_write() {
        let keys = Keys::of(Stage::Chunk);
        assert_eq!(keys.active, "graphmill:chunk:active");
        assert_eq!(keys.first, "graphmill:chunk:first");
        assert_eq!(keys.data, "graphmill:chunk:data");
        assert_eq!(keys.meta, "graphmill:chunk:meta");
        assert_eq!(keys.workers, "graphmill:chunk:workers");
        assert_eq!(keys.inflight_of("w"), "graphmill:chunk:inflight:w");
        assert_eq!(keys.metadata_of("w"), "graphmill:chunk:workers:metadata:w");
        assert_eq!(keys.channel, "tasks:graphmill:chunk:active:available");
        assert_ne!(keys.first_channel, keys.channel);
    }

    #[test]
    fn no_two_stages_share_a_queue() {
        let queues: std::collections::BTreeSet<_> = Stage::ALL
            .iter()
            .map(|stage| Keys::of(*stage).queue)
            .collect();
        assert_eq!(queues.len(), Stage::ALL.len());
    }
}
