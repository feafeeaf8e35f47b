//! The faults, and how a seed draws a schedule of them.

use std::{fmt, time::Duration};

use graphmill::{flow::Stage, worker::Step};

use crate::chance::Chance;

/// What can befall a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` of the worker that comes to this step.
    Step(Stage, Step),
    /// SIGSTOP, for three leases, of the worker that is granted a lease at this stage, before it works.
    Granted(Stage),
    /// `kill -9` between the units of the long document.
    Between,
    /// `kill -9` of some worker at some time.
    Kill,
    /// SIGSTOP for three leases, then CONT.
    Freeze,
    /// SIGTERM, and a new worker.
    Terminate,
    /// FLUSHALL.
    Flush,
    /// `kill -9` of Redis, which comes back with its file.
    RedisKill,
    /// `kill -9` of Redis, which comes back empty.
    RedisWipe,
    /// No Redis for a while.
    RedisAway,
    /// Redis answers, and refuses writes: too few replicas.
    RedisReadOnly,
    /// Redis answers, and refuses writes: it is somebody's replica.
    RedisReplica,
    /// Redis answers, and has no memory left.
    RedisFull,
    /// Every connection to Redis is cut.
    RedisCut,
    /// `kill -9` of Postgres.
    PostgresKill,
    /// A fast restart of Postgres.
    PostgresRestart,
    /// Every connection to Postgres is cut.
    PostgresCut,
    /// Jobs a second time, stale ones, foreign ones, malformed ones.
    Duplicates,
    /// The waiting jobs in another order.
    Shuffle,
}

impl Fault {
    /// All but the kills at a step.
    pub(crate) const OTHERS: [Self; 17] = [
        Self::Between,
        Self::Kill,
        Self::Freeze,
        Self::Terminate,
        Self::Flush,
        Self::RedisKill,
        Self::RedisWipe,
        Self::RedisAway,
        Self::RedisReadOnly,
        Self::RedisReplica,
        Self::RedisFull,
        Self::RedisCut,
        Self::PostgresKill,
        Self::PostgresRestart,
        Self::PostgresCut,
        Self::Duplicates,
        Self::Shuffle,
    ];

    /// Every kill at a step that there is.
    pub(crate) fn steps() -> impl Iterator<Item = Self> {
        Stage::ALL
            .into_iter()
            .flat_map(|stage| Step::ALL.map(|step| Self::Step(stage, step)))
            .filter(|fault| fault.why_not().is_none())
    }

    /// Every freeze at a step.
    pub(crate) fn freezes() -> impl Iterator<Item = Self> {
        Stage::ALL.into_iter().map(Self::Granted)
    }

    /// Why there is no such fault.
    pub(crate) const fn why_not(self) -> Option<&'static str> {
        let Self::Step(stage, Step::UnitDone) = self else {
            return None;
        };
        match stage {
            Stage::Mentions | Stage::Entities | Stage::Relations => None,
            // The last unit's checkpoint goes with the settle.
            Stage::Chunk => Some("one unit: nothing is between"),
            Stage::Assemble | Stage::Resolve => Some("no units"),
        }
    }

    /// In words.
    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Step(_, Step::Leased) => "kill -9 with the lease, before the work",
            Self::Step(_, Step::UnitDone) => "kill -9 between units",
            Self::Step(_, Step::Worked) => "kill -9 after the work, before the commit",
            Self::Step(_, Step::Settled) => "kill -9 after the commit, before the push",
            Self::Step(_, Step::Rung) => "kill -9 after the push, before the acknowledgement",
            Self::Granted(_) => "SIGSTOP with the lease, before the work, for 3 leases",
            Self::Between => "kill -9 between the units of a 1 MB document",
            Self::Kill => "kill -9 of a worker at any time",
            Self::Freeze => "SIGSTOP for 3 leases, then CONT",
            Self::Terminate => "SIGTERM and a new worker",
            Self::Flush => "FLUSHALL",
            Self::RedisKill => "Redis kill -9, back with its file",
            Self::RedisWipe => "Redis kill -9, back empty",
            Self::RedisAway => "Redis away for seconds",
            Self::RedisReadOnly => "Redis refuses writes (min-replicas-to-write)",
            Self::RedisReplica => "Redis refuses writes (read-only replica)",
            Self::RedisFull => "Redis out of memory",
            Self::RedisCut => "connections to Redis cut",
            Self::PostgresKill => "Postgres kill -9",
            Self::PostgresRestart => "Postgres fast restart",
            Self::PostgresCut => "connections to Postgres cut",
            Self::Duplicates => "duplicate, stale, foreign and malformed jobs",
            Self::Shuffle => "jobs delivered in another order",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Step(stage, step) => return write!(f, "kill/{stage}/{}", step.as_str()),
            Self::Granted(stage) => return write!(f, "freeze/{stage}"),
            Self::Between => "kill-between-units",
            Self::Kill => "kill-any-time",
            Self::Freeze => "freeze-any-time",
            Self::Terminate => "terminate",
            Self::Flush => "redis-flush",
            Self::RedisKill => "redis-kill",
            Self::RedisWipe => "redis-wipe",
            Self::RedisAway => "redis-away",
            Self::RedisReadOnly => "redis-read-only",
            Self::RedisReplica => "redis-replica",
            Self::RedisFull => "redis-full",
            Self::RedisCut => "redis-cut",
            Self::PostgresKill => "postgres-kill",
            Self::PostgresRestart => "postgres-restart",
            Self::PostgresCut => "postgres-cut",
            Self::Duplicates => "duplicates",
            Self::Shuffle => "reordered",
        };
        f.write_str(name)
    }
}

/// A fault of a schedule.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    pub(crate) fault: Fault,
    /// How long after the one before.
    pub(crate) after: Duration,
    /// Draws what is left open: who, how long.
    pub(crate) chance: Chance,
}

/// A schedule: enough for `faults` to land although some don't, with a kill between the units of the long document
/// early on.
pub(crate) fn schedule(seed: u64, faults: usize) -> Vec<Due> {
    let mut chance = Chance::new(seed);
    let steps: Vec<Fault> = Fault::steps()
        // At the end of a run there is only one: see `run`.
        .filter(|fault| !matches!(fault, Fault::Step(Stage::Resolve, _)))
        .collect();
    let mut others = Fault::OTHERS[1..].to_vec();
    others.extend(Fault::freezes().filter(|fault| *fault != Fault::Granted(Stage::Resolve)));
    chance.shuffle(&mut others);
    let mut drawn: Vec<Fault> = (0..faults * 3)
        .map(|at| {
            // Every third is a kill at a step; the others come once each before one comes again.
            match chance.below(3) {
                0 => chance.pick(&steps).copied().unwrap_or(Fault::Kill),
                _ => others[at % others.len()],
            }
        })
        .collect();
    let early = usize::try_from(chance.below(4)).unwrap_or(0);
    drawn.insert(early.min(drawn.len()), Fault::Between);
    drawn
        .into_iter()
        .map(|fault| Due {
            fault,
            after: chance.millis(300, 1800),
            chance: Chance::new(chance.draw()),
        })
        .collect()
}
