//! `chaos run`: seeded runs, each with servers, replicas and a schedule of its own, and a verdict.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Args;
use graphmill::{flow::Stage, pipeline::Settings, worker::Step};
use serde::Serialize;
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

use crate::{
    chance::Chance,
    documents,
    fault::{Fault, schedule},
    ground::Base,
    say,
    scene::{Scene, Setting},
    strike::{Aim, Strike},
    verdict, witnessed,
};

/// How long a run may take until it counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(400);
/// How long a worker may take to stop: its drain is 10 s.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// An undisturbed run must last this long, so that faults have something to hit.
const LONG_ENOUGH: Duration = Duration::from_secs(20);

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// The first run's seed; the next ones count up.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many runs.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// How many of them at a time.
    #[arg(long, default_value_t = 1)]
    parallel_runs: usize,
    /// Documents of a run, the long one among them.
    #[arg(long, default_value_t = 100)]
    documents: usize,
    /// Faults that must land.
    #[arg(long, default_value_t = 10)]
    faults: usize,
    /// Worker processes.
    #[arg(long, default_value_t = 3)]
    replicas: usize,
    /// Milliseconds of a unit of a short document; without it, so many that a run lasts long enough.
    #[arg(long)]
    unit_ms: Option<u64>,
    /// Milliseconds of a unit of the long document.
    #[arg(long, default_value_t = 65)]
    long_unit_ms: u64,
    /// One line of JSON for each run.
    #[arg(long)]
    json: bool,
    /// Keep the folders of runs that passed, too.
    #[arg(long)]
    keep: bool,
}

/// Documents in work at once.
const CONCURRENCY: u32 = 12;
/// Jobs of each stage that a replica works at once.
const SLOTS: usize = 2;

impl RunArgs {
    /// Three stages have units; so long they must take for the short documents to last 22 s.
    fn unit(&self) -> Duration {
        let documents = u64::try_from(self.documents.max(2) - 1).unwrap_or(u64::MAX);
        let least = 22_000 * u64::from(CONCURRENCY - 1) / (documents * 3);
        Duration::from_millis(self.unit_ms.unwrap_or(least))
    }

    fn setting(&self, name: String, seed: u64) -> Setting {
        Setting {
            name,
            seed,
            replicas: self.replicas,
            slots: SLOTS,
            lease: Duration::from_secs(3),
            units: (self.unit(), Duration::from_millis(self.long_unit_ms)),
            again: true,
        }
    }
}

/// What came of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    seed: u64,
    verdict: &'static str,
    seconds: f64,
    landed: usize,
    missed: usize,
    graph: String,
    units_begun: usize,
    units_repeated: usize,
    units_in_doubt: usize,
    processes: usize,
    failed_starts: u32,
    wrong: Vec<String>,
    faults: Vec<Strike>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
}

/// Runs them all; whether every one passed.
pub(crate) async fn run(args: RunArgs) -> Result<bool> {
    let base = Arc::new(Base::prepare().await?);
    say::note("an undisturbed run, to compare with");
    let undisturbed = one(&base, &args, 0, None).await?;
    say::note(&format!(
        "undisturbed: {} in {:.1} s, graph {}",
        undisturbed.verdict, undisturbed.seconds, undisturbed.graph
    ));
    ensure!(
        undisturbed.verdict == "passed",
        "the undisturbed run failed: {:#?}",
        undisturbed.wrong
    );
    ensure!(
        undisturbed.seconds >= LONG_ENOUGH.as_secs_f64(),
        "the undisturbed run lasted less than 20 s: raise --unit-ms"
    );
    let graph = undisturbed.graph;
    let turns = Arc::new(Semaphore::new(args.parallel_runs.max(1)));
    let mut runs = JoinSet::new();
    for seed in args.seed..args.seed + args.runs {
        let (base, args, graph) = (Arc::clone(&base), args.clone(), graph.clone());
        let turns = Arc::clone(&turns);
        runs.spawn(async move {
            let _turn = turns.acquire_owned().await;
            (seed, one(&base, &args, seed, Some(graph)).await)
        });
    }
    let (mut passed, mut all, mut landed) = (0, 0, 0);
    while let Some(done) = runs.join_next().await {
        let (seed, report) = done?;
        all += 1;
        match report {
            Ok(report) => {
                passed += u64::from(report.verdict == "passed");
                landed += report.landed;
                tell(&report, args.json, all, args.runs)?;
            }
            Err(error) => say::note(&format!("seed {seed}: the harness failed: {error:#}")),
        }
    }
    base.clear();
    say::note(&format!(
        "{passed} of {all} runs passed; {landed} faults landed; undisturbed {:.1} s, graph {graph}",
        undisturbed.seconds
    ));
    Ok(passed == all)
}

fn tell(report: &Report, json: bool, at: u64, of: u64) -> Result<()> {
    say::note(&format!(
        "[{at}/{of}] seed {}: {} in {:.1} s, {} faults landed, {} did not; {} units begun, {} of them again, {} in doubt",
        report.seed,
        report.verdict,
        report.seconds,
        report.landed,
        report.missed,
        report.units_begun,
        report.units_repeated,
        report.units_in_doubt,
    ));
    for wrong in &report.wrong {
        say::note(&format!("  {wrong}"));
    }
    if let Some(folder) = &report.folder {
        say::note(&format!("  kept: {folder}"));
    }
    if json {
        say::result(&serde_json::to_string(report)?);
    }
    Ok(())
}

/// One run; undisturbed if there is no graph to compare with.
async fn one(base: &Base, args: &RunArgs, seed: u64, graph: Option<String>) -> Result<Report> {
    let setting = args.setting(format!("run-{seed}"), seed);
    let scene = Arc::new(Scene::set(base, &setting).await?);
    let begun = Instant::now();
    let settings = Settings {
        parallel_groups: 4,
        ..Settings::default()
    };
    let documents = documents::batch(args.documents)?;
    let batch = scene
        .submit("chaos", documents, settings, CONCURRENCY)
        .await?;
    let faults = match graph {
        Some(_) => disturb(&scene, seed, args.faults).await?,
        None => Vec::new(),
    };
    let stuck = scene.until_ended(STUCK_AFTER).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let mut wrong: Vec<String> = stuck.iter().map(|rows| format!("stuck: {rows}")).collect();
    let mut landed = faults.iter().filter(|strike| strike.landed).count();
    let between = Fault::Between.to_string();
    let between = faults
        .iter()
        .any(|strike| strike.landed && strike.fault == between);
    if !between {
        // Without it the run is no run.
        landed = landed.min(args.faults.saturating_sub(1));
    }
    wrong.append(&mut check(&scene).await?);
    let (found, export) = scene.graph(batch).await?;
    if let Some(graph) = graph.as_ref().filter(|graph| **graph != found) {
        wrong.push(format!("the graph is {found}, undisturbed it is {graph}"));
        fs::write(scene.ground.folder.join("graph.json"), export)?;
    }
    let mut witnessed =
        witnessed::witnessed(&scene.ground, &scene.witness, scene.fleet.thaws()).await?;
    wrong.append(&mut witnessed.wrong);
    let verdict = match (&graph, wrong.is_empty()) {
        (_, false) => "failed",
        (Some(_), true) if landed < args.faults => "invalid",
        (Some(_) | None, true) => "passed",
    };
    let folder = scene.ground.folder.display().to_string();
    let keep = args.keep || verdict == "failed";
    let failed_starts = scene.fleet.failed_starts();
    if let Ok(scene) = Arc::try_unwrap(scene).map_err(|_| ()) {
        scene.strike_set(keep).await?;
    }
    Ok(Report {
        seed,
        verdict,
        seconds,
        landed,
        missed: faults.iter().filter(|strike| !strike.landed).count(),
        graph: found,
        units_begun: witnessed.begun,
        units_repeated: witnessed.repeated,
        units_in_doubt: witnessed.in_doubt,
        processes: witnessed.processes,
        failed_starts,
        wrong,
        faults,
        folder: keep.then_some(folder),
    })
}

/// Carries out the schedule until enough has landed or nothing is left to hit.
async fn disturb(scene: &Arc<Scene>, seed: u64, faults: usize) -> Result<Vec<Strike>> {
    let mut chance = Chance::new(seed ^ 0xC4A05);
    let wanted = faults + usize::try_from(chance.below(3)).unwrap_or(0);
    // Not before anything is leased.
    while scene.held().await?.is_empty() {
        sleep(Duration::from_millis(20)).await;
    }
    let mut strikes: Vec<Strike> = Vec::new();
    for mut due in schedule(seed, faults) {
        sleep(due.after).await;
        if scene.open_batches().await? == 0
            || strikes.iter().filter(|strike| strike.landed).count() >= wanted
        {
            break;
        }
        let strike = scene.strike(due.fault, None, &mut due.chance).await?;
        strikes.push(strike);
    }
    // The resolution comes once, at the very end: half of the runs die in it.
    if chance.below(2) == 0 {
        let step = match chance.below(4) {
            0 => Step::Leased,
            1 => Step::Worked,
            2 => Step::Settled,
            _ => Step::Rung,
        };
        let aim = Aim {
            execution: None,
            skip: 0,
            patience: STUCK_AFTER,
        };
        let fault = Fault::Step(Stage::Resolve, step);
        strikes.push(scene.strike(fault, Some(aim), &mut chance).await?);
    }
    Ok(strikes)
}

/// What is wrong with a scene whose batches have ended: it lets everything come to rest first.
pub(crate) async fn check(scene: &Scene) -> Result<Vec<String>> {
    scene.until_thawed().await;
    let mut wrong = verdict::queues_empty(&scene.ground).await?;
    wrong.append(&mut scene.fleet.drain(STOPPED_WITHIN).await);
    wrong.append(&mut verdict::queues_empty(&scene.ground).await?);
    wrong.append(&mut verdict::rows(&scene.ground).await?);
    Ok(wrong)
}
