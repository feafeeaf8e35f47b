//! chaos: real worker processes on real servers, killed, frozen, cut off and starved by a seeded schedule; then a
//! verdict from outside. The reliability page's numbers come from here.
//!
//! ```text
//! cargo run --release --example chaos -- run --seed 1 --runs 200 --parallel-runs 8
//! cargo run --release --example chaos -- matrix
//! cargo run --release --example chaos -- recovery
//! ```
//!
//! The same program is the worker that it supervises: any other command is graphmill's own, with the witness for an
//! extractor (`chaos worker`).

mod chance;
mod documents;
mod fault;
mod fleet;
mod graph;
mod ground;
mod jobs;
mod matrix;
mod plan;
mod recovery;
mod run;
mod say;
mod scene;
mod strike;
mod verdict;
mod witness;
mod witnessed;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use graphmill::{
    extractors::{Extractors, Local},
    worker,
};
use plan::{Plan, Watcher};

/// Kills graphmill in every way that is known, and looks whether anything is lost.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Chaos {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Seeded runs of a batch under a schedule of faults.
    Run(run::RunArgs),
    /// Every fault once, each on a small batch of its own.
    Matrix(matrix::MatrixArgs),
    /// How long until work goes on, with the default lease.
    Recovery(recovery::RecoveryArgs),
}

fn main() -> ExitCode {
    let ours = ["run", "matrix", "recovery", "--help", "-h", "help"];
    match std::env::args().nth(1) {
        // A worker's child, which works one unit and is told which on its standard input.
        Some(command) if command == worker::WORK_UNIT => graphmill::cli::main(extractors()),
        Some(command) if !ours.contains(&command.as_str()) => worker(),
        Some(_) | None => supervisor(Chaos::parse().command),
    }
}

fn supervisor(command: Command) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let done = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            match command {
                Command::Run(args) => run::run(args).await,
                Command::Matrix(args) => matrix::matrix(args).await,
                Command::Recovery(args) => recovery::recovery(args).await,
            }
        })
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say::note(&format!("chaos: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// What is supervised: graphmill with the witness, and a watcher that dies where the plan says.
fn worker() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "an example has no config room")]
    let setting = |name: &str| std::env::var(name).ok();
    if let Some(folder) = setting("CHAOS_PLAN") {
        match Plan::new(folder) {
            Ok(plan) => {
                let watcher = Watcher::new(plan);
                worker::watch_steps(move |stage, step, execution| {
                    watcher.came_to(stage, step, execution);
                });
            }
            Err(error) => {
                say::note(&format!("chaos: no plan: {error}"));
                return ExitCode::FAILURE;
            }
        }
        // The supervisor holds the other end, and it closes however the supervisor ends.
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::abort();
        });
    }
    graphmill::cli::main(extractors())
}

/// The witness, as the supervisor has set it up.
fn extractors() -> Extractors {
    #[expect(clippy::disallowed_methods, reason = "an example has no config room")]
    let setting = |name| std::env::var(name).ok();
    let number = |name| setting(name).and_then(|text| text.parse::<u64>().ok());
    let millis = |name| Duration::from_millis(number(name).unwrap_or(0));
    Extractors::builtin().with(witness::Witness {
        local: Local::new(),
        file: setting("WITNESS_FILE").map(PathBuf::from),
        short: millis("WITNESS_MS"),
        long: millis("WITNESS_LONG_MS"),
        seed: number("WITNESS_SEED").unwrap_or(0),
    })
}
