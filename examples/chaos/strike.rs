//! Carrying out a fault, and whether it landed: it counts only if a lease was held when it came. For a process that
//! is killed or frozen that means one of its own; it can't give it back, so the rows tell afterwards.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use graphmill::{flow::Stage, worker::Step};
use graphmill_jobs::WorkflowExecutionId;
use rustix::process::Signal;
use serde::Serialize;
use tokio::time::sleep;

use crate::{
    chance::Chance,
    fault::Fault,
    fleet::Replica,
    jobs,
    plan::{Death, Landed},
    scene::{Held, Scene},
};

/// What came of a fault.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Strike {
    pub(crate) fault: String,
    /// Milliseconds since the run began.
    pub(crate) at_ms: u64,
    /// It came while a lease was held.
    pub(crate) landed: bool,
    /// Leases that it hit.
    pub(crate) leases: usize,
    pub(crate) note: String,
    /// Rows that must move on for the work to have gone on: those of a worker's leases, and the one that its death was
    /// aimed at.
    #[serde(skip)]
    pub(crate) follow: Vec<Held>,
    #[serde(skip)]
    pub(crate) when: Instant,
}

/// Where a kill at a step is to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim {
    pub(crate) execution: Option<WorkflowExecutionId>,
    pub(crate) skip: u64,
    pub(crate) patience: Duration,
}

impl Scene {
    /// Carries out `fault`, and returns when it is over, but for a freeze, which ends later.
    pub(crate) async fn strike(
        self: &Arc<Self>,
        fault: Fault,
        aim: Option<Aim>,
        chance: &mut Chance,
    ) -> Result<Strike> {
        match fault {
            Fault::Step(stage, step) => self.aimed(fault, stage, step, aim, chance).await,
            Fault::Granted(stage) => self.aimed(fault, stage, Step::Leased, aim, chance).await,
            Fault::Between => {
                let death = Death {
                    stage: None,
                    step: Step::UnitDone,
                    execution: Some(self.long_execution().await?),
                    skip: chance.below(20),
                    freeze: false,
                };
                self.at_a_step(fault, death, Duration::from_secs(15)).await
            }
            Fault::Kill => self.at_a_worker(fault, Signal::KILL, chance).await,
            Fault::Freeze => self.at_a_worker(fault, Signal::STOP, chance).await,
            Fault::Terminate => self.at_a_worker(fault, Signal::TERM, chance).await,
            Fault::Flush
            | Fault::RedisKill
            | Fault::RedisWipe
            | Fault::RedisAway
            | Fault::RedisReadOnly
            | Fault::RedisReplica
            | Fault::RedisFull
            | Fault::RedisCut
            | Fault::PostgresKill
            | Fault::PostgresRestart
            | Fault::PostgresCut
            | Fault::Duplicates
            | Fault::Shuffle => self.at_a_server(fault, chance).await,
        }
    }

    fn came(&self, fault: Fault, when: Instant, hit: Vec<Held>, note: impl Into<String>) -> Strike {
        let at = when.saturating_duration_since(self.begun).as_millis();
        Strike {
            fault: fault.to_string(),
            at_ms: u64::try_from(at).unwrap_or(u64::MAX),
            landed: !hit.is_empty(),
            leases: hit.len(),
            note: note.into(),
            follow: hit,
            when,
        }
    }

    async fn aimed(
        &self,
        fault: Fault,
        stage: Stage,
        step: Step,
        aim: Option<Aim>,
        chance: &mut Chance,
    ) -> Result<Strike> {
        let aim = aim.unwrap_or(Aim {
            execution: None,
            skip: chance.below(3),
            patience: Duration::from_secs(8),
        });
        let death = Death {
            stage: Some(stage),
            step,
            execution: aim.execution,
            skip: aim.skip,
            freeze: matches!(fault, Fault::Granted(_)),
        };
        self.at_a_step(fault, death, aim.patience).await
    }

    /// Arms a death and waits for it.
    async fn at_a_step(&self, fault: Fault, death: Death, patience: Duration) -> Result<Strike> {
        let name = format!("{}-{}", fault.to_string().replace('/', "-"), self.clock());
        self.plan.arm(&name, &death)?;
        let begun = Instant::now();
        let mut landed = None;
        while landed.is_none() && begun.elapsed() < patience && self.open_batches().await? > 0 {
            sleep(Duration::from_millis(10)).await;
            landed = self.plan.landed(&name);
        }
        let landed = if landed.is_none() {
            self.plan.disarm(&name);
            // Claimed in the last moment.
            sleep(Duration::from_millis(100)).await;
            self.plan.landed(&name)
        } else {
            landed
        };
        let when = Instant::now();
        let Some(landed) = landed else {
            return Ok(self.came(fault, when, Vec::new(), "nobody came to that step"));
        };
        let hit = self.hit_by_a_death(death.step, &landed).await?;
        if death.freeze {
            self.thaw_later(landed.process, self.lease * 3).await;
        }
        let note = format!("{} {} of {}", landed.stage, landed.step, landed.execution);
        let mut strike = self.came(fault, when, hit, note);
        strike.follow.extend(self.row_of(&landed.execution).await?);
        Ok(strike)
    }

    /// What the dead worker held. Before the commit that includes what it worked on; after it, others.
    async fn hit_by_a_death(&self, step: Step, landed: &Landed) -> Result<Vec<Held>> {
        let Some(owner) = self.fleet.owner(landed.process) else {
            return Ok(Vec::new());
        };
        let hit = self.held_by(&owner).await?;
        let its_own = hit.iter().any(|lease| {
            landed
                .execution
                .ends_with(&lease.execution.replace('-', ""))
        });
        Ok(match step {
            Step::Leased | Step::UnitDone | Step::Worked if !its_own => Vec::new(),
            Step::Leased | Step::UnitDone | Step::Worked | Step::Settled | Step::Rung => hit,
        })
    }

    /// A signal to a worker that holds leases.
    async fn at_a_worker(
        self: &Arc<Self>,
        fault: Fault,
        signal: Signal,
        chance: &mut Chance,
    ) -> Result<Strike> {
        let Some((replica, before)) = self.victim(chance).await? else {
            let note = "nobody held a lease";
            return Ok(self.came(fault, Instant::now(), Vec::new(), note));
        };
        let when = Instant::now();
        if !self.fleet.signal(&replica, signal) {
            return Ok(self.came(fault, when, Vec::new(), "it was gone"));
        }
        let note = format!("process {}", replica.process);
        let hit = if fault == Fault::Terminate {
            // It gives its leases back at once: the rows of before are what it held.
            before
        } else {
            self.held_by(&replica.owner).await?
        };
        if fault == Fault::Freeze {
            let time = self.lease * 3 + chance.millis(0, 1000);
            self.thaw_later(replica.process, time).await;
        }
        Ok(self.came(fault, when, hit, note))
    }

    async fn thaw_later(&self, process: u32, time: Duration) {
        self.fleet.freezes(process);
        let fleet = Arc::clone(&self.fleet);
        self.later.lock().await.spawn(async move {
            sleep(time).await;
            fleet.thaw(process);
        });
    }

    /// A worker that holds leases, and these.
    async fn victim(&self, chance: &mut Chance) -> Result<Option<(Replica, Vec<Held>)>> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            let held = self.held().await?;
            let mut awake = self.fleet.awake();
            awake.retain(|replica| held.iter().any(|lease| lease.owner == replica.owner));
            if let Some(replica) = chance.pick(&awake) {
                let its = held
                    .into_iter()
                    .filter(|lease| lease.owner == replica.owner);
                return Ok(Some((replica.clone(), its.collect())));
            }
            sleep(Duration::from_millis(30)).await;
        }
        Ok(None)
    }

    /// A server's trouble; the leases that were held before and are after its beginning were held when it came.
    async fn at_a_server(&self, fault: Fault, chance: &mut Chance) -> Result<Strike> {
        let before = self.held().await?;
        let when = Instant::now();
        let after = async {
            sleep(Duration::from_millis(50)).await;
            self.held().await
        };
        let (note, after) = tokio::join!(self.trouble(fault, chance), after);
        let (note, mut hit) = (note?, after?);
        hit.retain(|lease| before.contains(lease));
        if note == jobs::NOTHING_WAITED {
            hit.clear();
        }
        let mut strike = self.came(fault, when, hit, note);
        // Nobody lost a lease: what counts is the next one.
        strike.follow.clear();
        Ok(strike)
    }

    async fn trouble(&self, fault: Fault, chance: &mut Chance) -> Result<String> {
        let ground = &self.ground;
        let time = chance.millis(1500, 4000);
        let mut note = format!("{} ms", time.as_millis());
        match fault {
            Fault::Flush => ground.tell_redis(&["FLUSHALL"]).await?,
            Fault::RedisKill => ground.kill_redis().await?,
            Fault::RedisWipe => ground.take_redis_away(Duration::ZERO, true).await?,
            Fault::RedisAway => ground.take_redis_away(time, false).await?,
            Fault::RedisReadOnly => {
                let set = ["CONFIG", "SET", "min-replicas-to-write"];
                ground.tell_redis(&[&set[..], &["1"]].concat()).await?;
                sleep(time).await;
                ground.tell_redis(&[&set[..], &["0"]].concat()).await?;
            }
            Fault::RedisReplica => {
                ground.tell_redis(&["REPLICAOF", "127.0.0.1", "1"]).await?;
                sleep(time).await;
                ground.tell_redis(&["REPLICAOF", "NO", "ONE"]).await?;
            }
            Fault::RedisFull => {
                ground
                    .tell_redis(&["CONFIG", "SET", "maxmemory", "1"])
                    .await?;
                sleep(time).await;
                ground
                    .tell_redis(&["CONFIG", "SET", "maxmemory", "0"])
                    .await?;
            }
            Fault::RedisCut => {
                for kind in ["normal", "pubsub"] {
                    ground.tell_redis(&["CLIENT", "KILL", "TYPE", kind]).await?;
                }
            }
            Fault::PostgresKill => ground.restart_postgres(Signal::KILL).await?,
            Fault::PostgresRestart => ground.restart_postgres(Signal::INT).await?,
            Fault::PostgresCut => {
                let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                           where application_name like 'graphmill%'";
                note = format!("{} connections", ground.number(cut).await?);
            }
            Fault::Duplicates => note = jobs::repeat(ground, chance).await?,
            Fault::Shuffle => note = jobs::shuffle(ground, chance).await?,
            Fault::Step(..)
            | Fault::Granted(_)
            | Fault::Between
            | Fault::Kill
            | Fault::Freeze
            | Fault::Terminate => {}
        }
        Ok(note)
    }
}
