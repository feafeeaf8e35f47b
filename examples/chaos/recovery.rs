//! `chaos recovery`: how long until work goes on, with the default lease: after `kill -9` of a worker, after FLUSHALL,
//! after Redis came back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Args;
use graphmill::{flow::Stage, pipeline::Settings};
use rustix::process::Signal;
use serde::Serialize;
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

use crate::{
    chance::Chance,
    documents,
    ground::Base,
    jobs, say,
    scene::{Scene, Setting},
};

/// **Source:** the default of `WorkerSettings`.
const LEASE: Duration = Duration::from_secs(15);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// Arguments of `recovery`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RecoveryArgs {
    /// How often each is measured.
    #[arg(long, default_value_t = 20)]
    times: u64,
    /// How many measurements at a time.
    #[arg(long, default_value_t = 5)]
    parallel: usize,
    /// Only this: `kill`, `flush` or `return`.
    #[arg(long)]
    only: Option<String>,
    /// One line of JSON for each.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Kill,
    Flush,
    Return,
}

impl What {
    const ALL: [Self; 3] = [Self::Kill, Self::Flush, Self::Return];

    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Flush => "flush",
            Self::Return => "return",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Kill => "kill -9 of a worker until its document is leased by another",
            Self::Flush => "FLUSHALL until a document whose ring was lost is leased",
            Self::Return => "Redis' return after 3 s until a document that waited is leased",
        }
    }

    /// Seconds that it may take.
    const fn bar(self) -> f64 {
        match self {
            Self::Kill => 16.0,
            Self::Flush | Self::Return => 2.0,
        }
    }
}

#[derive(Debug, Serialize)]
struct Measured {
    what: &'static str,
    times: usize,
    median_s: f64,
    worst_s: f64,
    bar_s: f64,
    within: bool,
    all_s: Vec<f64>,
}

/// Measures; whether every time was within its bar.
pub(crate) async fn recovery(args: RecoveryArgs) -> Result<bool> {
    let base = Arc::new(Base::prepare().await?);
    let mut within = true;
    for what in What::ALL {
        if args.only.as_deref().is_some_and(|only| only != what.name()) {
            continue;
        }
        let turns = Arc::new(Semaphore::new(args.parallel.max(1)));
        let mut tasks = JoinSet::new();
        for seed in 0..args.times {
            let (base, turns) = (Arc::clone(&base), Arc::clone(&turns));
            tasks.spawn(async move {
                let _turn = turns.acquire_owned().await;
                one(&base, what, seed).await
            });
        }
        let mut all = Vec::new();
        while let Some(seconds) = tasks.join_next().await {
            all.extend(seconds??);
        }
        all.sort_by(f64::total_cmp);
        ensure!(!all.is_empty(), "nothing was measured");
        let worst = all[all.len() - 1];
        let measured = Measured {
            what: what.name(),
            times: all.len(),
            median_s: all[all.len() / 2],
            worst_s: worst,
            bar_s: what.bar(),
            within: worst <= what.bar(),
            all_s: all,
        };
        within &= measured.within;
        say::note(&format!(
            "{}: median {:.2} s, worst {:.2} s of {} (bar {} s)",
            what.words(),
            measured.median_s,
            measured.worst_s,
            measured.times,
            measured.bar_s
        ));
        if args.json {
            say::result(&serde_json::to_string(&measured)?);
        }
    }
    base.clear();
    Ok(within)
}

async fn one(base: &Base, what: What, seed: u64) -> Result<Vec<f64>> {
    let setting = Setting {
        name: format!("{}-{seed}", what.name()),
        seed,
        replicas: if what == What::Kill { 3 } else { 2 },
        slots: if what == What::Kill { 4 } else { 1 },
        lease: LEASE,
        units: (Duration::from_millis(300), Duration::ZERO),
        again: false,
    };
    let scene = Scene::set(base, &setting).await?;
    let mut chance = Chance::new(seed);
    let seconds = match what {
        What::Kill => kill(&scene, &mut chance).await,
        What::Flush | What::Return => redis(&scene, what, &mut chance).await,
    };
    scene.strike_set(false).await?;
    seconds
}

/// Documents whose units come one by one and take long: leases last, and are renewed.
async fn kill(scene: &Scene, chance: &mut Chance) -> Result<Vec<f64>> {
    let one_by_one = Settings {
        parallel_chunks: 1,
        parallel_groups: 1,
        ..Settings::default()
    };
    let long = documents::middling("long", 6)?;
    scene.submit("recovery", long, one_by_one, 6).await?;
    let begun = Instant::now();
    // Any time within two renewals.
    sleep(chance.millis(2000, 12_000)).await;
    let (victim, held) = loop {
        ensure!(begun.elapsed() < PATIENCE, "nobody held a lease");
        let held = scene.held().await?;
        let mut awake = scene.fleet.awake();
        awake.retain(|replica| held.iter().any(|lease| lease.owner == replica.owner));
        if let Some(victim) = chance.pick(&awake) {
            break (victim.clone(), held);
        }
        sleep(Duration::from_millis(10)).await;
    };
    let killed = Instant::now();
    scene.fleet.signal(&victim, Signal::KILL);
    drop(held);
    let mut held = scene.held_by(&victim.owner).await?;
    let mut seconds = Vec::new();
    while !held.is_empty() {
        let still = scene.unmoved(&held).await?;
        let back = held.len() - still.len();
        seconds.extend(vec![killed.elapsed().as_secs_f64(); back]);
        held = still;
        if killed.elapsed() > PATIENCE {
            seconds.extend(vec![f64::INFINITY; held.len()]);
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(seconds)
}

/// More documents than slots, so that jobs wait in the queues.
async fn redis(scene: &Scene, what: What, chance: &mut Chance) -> Result<Vec<f64>> {
    scene
        .submit("recovery", documents::short(60)?, Settings::default(), 16)
        .await?;
    sleep(chance.millis(2000, 3000)).await;
    let begun = Instant::now();
    let waiting = "select id, '', lease_epoch, current_activity from workflow_execution
                   where status = 'processing' and lease_owner is null and rung_at is not null";
    let lost = loop {
        ensure!(begun.elapsed() < PATIENCE, "no job waited");
        let lost = scene.ground.rows(waiting).await?;
        if lost.len() >= 4 {
            break lost;
        }
        sleep(Duration::from_millis(5)).await;
    };
    let (lost, since) = if what == What::Flush {
        (flush(scene, lost).await?, Instant::now())
    } else {
        let time = Duration::from_secs(3);
        scene.ground.take_redis_away(time, false).await?;
        let since = Instant::now();
        // What waits now: the rest was worked while Redis was away.
        let still = "select id, '', lease_epoch, current_activity from workflow_execution
                     where status = 'processing' and lease_owner is null";
        (scene.ground.rows(still).await?, since)
    };
    ensure!(!lost.is_empty(), "nothing waited");
    let moved = |rows: &[Vec<String>]| {
        lost.iter().any(|before| {
            rows.iter()
                .any(|row| row[0] == before[0] && row[1] != before[2])
        })
    };
    let epochs = "select id, lease_epoch from workflow_execution";
    while !moved(&scene.ground.rows(epochs).await?) {
        if since.elapsed() > PATIENCE {
            return Ok(vec![f64::INFINITY]);
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(vec![since.elapsed().as_secs_f64()])
}

/// Flushes, and leaves of `waiting` those whose jobs were still in a queue: a job that a worker had taken is not lost.
async fn flush(scene: &Scene, mut waiting: Vec<Vec<String>>) -> Result<Vec<Vec<String>>> {
    let mut redis = scene.ground.redis().await?;
    let mut pipe = redis::pipe();
    pipe.atomic();
    for stage in Stage::ALL {
        pipe.lrange(format!("{}:active", jobs::queue(stage)), 0, -1);
    }
    pipe.cmd("FLUSHALL").ignore();
    let queues: Vec<Vec<String>> = pipe.query_async(&mut redis).await?;
    waiting.retain(|row| {
        let id = row[0].replace('-', "");
        queues.iter().flatten().any(|job| job.contains(&id))
    });
    Ok(waiting)
}
