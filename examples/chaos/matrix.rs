//! `chaos matrix`: every fault once, each with servers, replicas and a small batch of its own.
//!
//! Beside the batch that is hit runs another one, for company: it keeps every replica holding leases to the end, so
//! that a fault lands while one is held also where the step itself comes after the commit.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Args;
use graphmill::{
    flow::Stage,
    pipeline::{NewDocument, Settings},
    worker::Step,
};
use graphmill_jobs::BatchId;
use serde::Serialize;
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

use crate::{
    chance::{Chance, number_of},
    documents,
    fault::Fault,
    ground::Base,
    run, say,
    scene::{Scene, Setting},
    strike::Aim,
    witnessed,
};

/// How long a cell may take until it counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(240);
/// How often a fault that did not land is tried again.
const TRIES: u32 = 3;
/// Worker processes of a cell.
const REPLICAS: usize = 2;
/// Where the table goes.
const PAGE: &str = "docs/reliability/matrix.md";

/// Arguments of `matrix`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MatrixArgs {
    /// Only faults whose names begin with this, for example `kill/mentions/settled`, `kill/` or `redis-`.
    #[arg(long, default_value = "")]
    only: String,
    /// How many cells at a time.
    #[arg(long, default_value_t = 6)]
    parallel: usize,
    /// Write the table to `docs/reliability/matrix.md`.
    #[arg(long)]
    markdown: bool,
    /// One line of JSON for each cell.
    #[arg(long)]
    json: bool,
}

/// A line of the table.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cell {
    fault: String,
    what: &'static str,
    landed: bool,
    /// Leases that it hit.
    leases: usize,
    /// Seconds until the work went on.
    recovered: Option<f64>,
    verdict: &'static str,
    note: String,
    wrong: Vec<String>,
}

/// The graphs of undisturbed batches, by whether the long document is among theirs.
#[derive(Debug, Clone, Default)]
struct Graphs {
    usual: Vec<String>,
    long: Vec<String>,
}

/// All cells; whether every one passed.
pub(crate) async fn matrix(args: MatrixArgs) -> Result<bool> {
    let base = Arc::new(Base::prepare().await?);
    let faults: Vec<Fault> = Fault::steps()
        .chain(Fault::freezes())
        .chain(Fault::OTHERS)
        .filter(|fault| fault.to_string().starts_with(&args.only))
        .collect();
    ensure!(!faults.is_empty(), "no fault begins with `{}`", args.only);
    let graphs = undisturbed(&base, &faults).await?;
    let turns = Arc::new(Semaphore::new(args.parallel.max(1)));
    let mut cells = JoinSet::new();
    for (at, fault) in faults.iter().copied().enumerate() {
        let (base, graphs, turns) = (Arc::clone(&base), graphs.clone(), Arc::clone(&turns));
        cells.spawn(async move {
            let _turn = turns.acquire_owned().await;
            (at, fault, until_landed(&base, fault, &graphs).await)
        });
    }
    let mut done = Vec::new();
    while let Some(cell) = cells.join_next().await {
        let (at, fault, cell) = cell?;
        let cell = cell.unwrap_or_else(|error| Cell {
            verdict: "failed",
            wrong: vec![format!("the harness failed: {error:#}")],
            ..nothing(fault)
        });
        tell(&cell, args.json)?;
        done.push((at, cell));
    }
    done.sort_by_key(|(at, _)| *at);
    let mut cells: Vec<Cell> = done.into_iter().map(|(_, cell)| cell).collect();
    let passed = cells.iter().all(|cell| cell.verdict == "passed");
    for absent in absent().filter(|cell| cell.fault.starts_with(&args.only)) {
        tell(&absent, args.json)?;
        cells.push(absent);
    }
    base.clear();
    if args.markdown {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
        fs::create_dir_all(page.parent().unwrap_or(Path::new(".")))?;
        fs::write(page, table(&cells))?;
    }
    Ok(passed)
}

/// The cells that don't exist, each with the reason.
fn absent() -> impl Iterator<Item = Cell> {
    Stage::ALL
        .into_iter()
        .flat_map(|stage| Step::ALL.map(|step| Fault::Step(stage, step)))
        .filter_map(|fault| {
            Some(Cell {
                verdict: "none",
                note: fault.why_not()?.to_owned(),
                ..nothing(fault)
            })
        })
}

fn nothing(fault: Fault) -> Cell {
    Cell {
        fault: fault.to_string(),
        what: fault.what(),
        landed: false,
        leases: 0,
        recovered: None,
        verdict: "missed",
        note: String::new(),
        wrong: Vec::new(),
    }
}

fn tell(cell: &Cell, json: bool) -> Result<()> {
    let recovered = cell
        .recovered
        .map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1} s"));
    say::note(&format!(
        "{:28} {:7} recovered {recovered:>7}, {} leases hit; {}",
        cell.fault, cell.verdict, cell.leases, cell.note
    ));
    for wrong in &cell.wrong {
        say::note(&format!("  {wrong}"));
    }
    if json {
        say::result(&serde_json::to_string(cell)?);
    }
    Ok(())
}

fn table(cells: &[Cell]) -> String {
    let mut page = "# The fault matrix\n\n\
        Written by `cargo run --release --example chaos -- matrix --markdown`; a row alone by\n\
        `cargo run --release --example chaos -- matrix --only NAME`. Two replicas, a lease of 3 s. *Recovered*, for\n\
        a worker's fault: from the fault until every document whose lease it hit was leased anew, settled or final; for a\n\
        server's: from the end of the fault until the next lease. *Passed*: every\n\
        document completed once, the graph equal to that of an undisturbed run, no unit begun after its checkpoint, counts\n\
        equal to the rows, no lease, no job and no unsent event left.\n\n\
        | name | fault | leases hit | recovered | verdict |\n| --- | --- | ---: | ---: | --- |\n"
        .to_owned();
    for cell in cells {
        let recovered = cell
            .recovered
            .map_or_else(String::new, |seconds| format!("{seconds:.1} s"));
        let verdict = match cell.verdict {
            "none" => format!("no such cell: {}", cell.note),
            verdict => verdict.to_owned(),
        };
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {recovered} | {verdict} |",
            cell.fault, cell.what, cell.leases
        );
    }
    page
}

async fn undisturbed(base: &Base, faults: &[Fault]) -> Result<Graphs> {
    let mut graphs = Graphs::default();
    say::note("undisturbed, to compare with");
    for (long, graphs) in [(false, &mut graphs.usual), (true, &mut graphs.long)] {
        if !faults
            .iter()
            .any(|fault| (*fault == Fault::Between) == long)
        {
            continue;
        }
        let scene = Scene::set(base, &setting(&format!("undisturbed-{long}"), 0)).await?;
        let batches = [company(&scene).await?, hit(&scene, long).await?];
        let stuck = scene.until_ended(STUCK_AFTER).await?;
        ensure!(stuck.is_none(), "the undisturbed run is stuck: {stuck:?}");
        for batch in batches {
            graphs.push(scene.graph(batch).await?.0);
        }
        scene.strike_set(false).await?;
    }
    Ok(graphs)
}

fn setting(name: &str, seed: u64) -> Setting {
    Setting {
        name: name.to_owned(),
        seed,
        replicas: REPLICAS,
        slots: 3,
        lease: Duration::from_secs(3),
        units: (Duration::from_millis(150), Duration::from_millis(25)),
        again: true,
    }
}

/// A batch that lasts: its units come one by one.
async fn company(scene: &Scene) -> Result<BatchId> {
    let one_by_one = Settings {
        parallel_chunks: 1,
        parallel_groups: 1,
        ..Settings::default()
    };
    let documents = documents::middling("company", 4)?;
    scene.submit("company", documents, one_by_one, 8).await
}

/// The batch that is hit.
async fn hit(scene: &Scene, long: bool) -> Result<BatchId> {
    let mut documents: Vec<NewDocument> = documents::middling("middling", 1)?;
    documents.extend(documents::short(3)?);
    if long {
        documents.insert(0, documents::long()?);
    }
    scene.submit("hit", documents, Settings::default(), 8).await
}

/// A fault that did not land is no result: once more, with other chances.
async fn until_landed(base: &Base, fault: Fault, graphs: &Graphs) -> Result<Cell> {
    let mut cell = nothing(fault);
    for attempt in 0..TRIES {
        cell = one(base, fault, attempt, graphs).await?;
        if cell.verdict != "missed" {
            break;
        }
    }
    Ok(cell)
}

async fn one(base: &Base, fault: Fault, attempt: u32, graphs: &Graphs) -> Result<Cell> {
    let name = format!("{}-{attempt}", fault.to_string().replace('/', "-"));
    let seed = number_of(&name);
    let scene = Arc::new(Scene::set(base, &setting(&name, seed)).await?);
    let long = fault == Fault::Between;
    let company = company(&scene).await?;
    until_everybody_works(&scene).await?;
    let mut chance = Chance::new(seed);
    let (strike, hit) = if let Fault::Step(stage, _) | Fault::Granted(stage) = fault {
        let aim = Aim {
            // The company is past its first stages, and comes to its resolution later.
            execution: None,
            skip: if stage == Stage::Resolve {
                0
            } else {
                chance.below(2)
            },
            patience: STUCK_AFTER,
        };
        let strike = scene.strike(fault, Some(aim), &mut chance);
        let (strike, hit) = tokio::join!(strike, hit(&scene, long));
        (strike?, hit?)
    } else {
        let hit = hit(&scene, long).await?;
        sleep(chance.millis(200, 900)).await;
        (scene.strike(fault, None, &mut chance).await?, hit)
    };
    let batches = [company, hit];
    let recovered = match (strike.landed, strike.follow.is_empty()) {
        (false, _) => None,
        (true, false) => {
            let since = strike.when;
            scene
                .until_moved(&strike.follow, since, STUCK_AFTER)
                .await?
        }
        (true, true) => scene.until_next_lease(STUCK_AFTER).await?,
    };
    let stuck = scene.until_ended(STUCK_AFTER).await?;
    let mut wrong: Vec<String> = stuck.iter().map(|rows| format!("stuck: {rows}")).collect();
    wrong.append(&mut run::check(&scene).await?);
    let expected = if long { &graphs.long } else { &graphs.usual };
    for (batch, expected) in batches.into_iter().zip(expected) {
        let (found, _) = scene.graph(batch).await?;
        if found != *expected {
            wrong.push(format!(
                "the graph is {found}, undisturbed it is {expected}"
            ));
        }
    }
    let mut witnessed =
        witnessed::witnessed(&scene.ground, &scene.witness, scene.fleet.thaws()).await?;
    wrong.append(&mut witnessed.wrong);
    let verdict = match (wrong.is_empty(), strike.landed) {
        (false, _) => "failed",
        (true, false) => "missed",
        (true, true) => "passed",
    };
    let folder = scene.ground.folder.display().to_string();
    if let Ok(scene) = Arc::try_unwrap(scene).map_err(|_| ()) {
        scene.strike_set(verdict == "failed").await?;
    }
    if verdict == "failed" {
        wrong.push(format!("kept: {folder}"));
    }
    Ok(Cell {
        landed: strike.landed,
        leases: strike.leases,
        recovered,
        verdict,
        note: strike.note,
        wrong,
        ..nothing(fault)
    })
}

/// Waits until every replica holds a lease.
async fn until_everybody_works(scene: &Scene) -> Result<()> {
    let begun = Instant::now();
    loop {
        let held = scene.held().await?;
        let awake = scene.fleet.awake();
        let works = |owner: &String| held.iter().any(|lease| lease.owner == *owner);
        if awake.len() == REPLICAS && awake.iter().all(|replica| works(&replica.owner)) {
            return Ok(());
        }
        // Now and then one gets none of the first four; it gets the next.
        if begun.elapsed() > Duration::from_secs(5) {
            return Ok(());
        }
        sleep(Duration::from_millis(10)).await;
    }
}
