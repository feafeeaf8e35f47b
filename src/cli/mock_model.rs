//! `graphmill mock-model`: the scripted model server, for tests.

use std::{io, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Args;

use super::{error::CliError, output, run::Interrupts};
use crate::mock_model::{Latency, MockModel, Options, Script, StartError};

/// Arguments of `mock-model`.
#[derive(Debug, Args)]
pub(super) struct MockModelArgs {
    /// Where to listen; port 0 is one that is free. The base URL is the first line on stdout.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What the server does, in TOML or JSON.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// The same, as an argument.
    #[arg(long, value_name = "SCRIPT", conflicts_with = "script")]
    script_json: Option<String>,
    /// Where the bill is written, line by line; a file that is there is gone on with.
    #[arg(long, value_name = "FILE")]
    bill: Option<PathBuf>,
    /// How long an answer takes: 100ms, 50ms..150ms, ~100ms (exponential), 2ms/token, or a sum of them; goes before
    /// the script's.
    #[arg(long)]
    latency: Option<Latency>,
    /// What every chance comes from; goes before the script's.
    #[arg(long)]
    seed: Option<u64>,
    /// The key that a request must have; without, none is asked for.
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// End when stdin does, and so with the process that holds its other end.
    #[arg(long)]
    until_stdin_closes: bool,
}

pub(super) async fn mock_model(args: MockModelArgs) -> Result<ExitCode, CliError> {
    let text = match (&args.script, args.script_json) {
        (Some(path), _) => std::fs::read_to_string(path)
            .map_err(|error| CliError::Usage(format!("`{}`: {error}", path.display())))?,
        (None, text) => text.unwrap_or_default(),
    };
    let mut script = Script::read(&text)?;
    script.latency = args.latency.unwrap_or(script.latency);
    script.seed = args.seed.unwrap_or(script.seed);
    let options = Options {
        listen: args.listen,
        script,
        bill: args.bill,
        api_key: args.api_key,
    };
    // Before the URL is told: whoever knows it may end the server.
    let mut interrupts = Interrupts::listen();
    let server = MockModel::start(options)
        .await
        .map_err(|error| match error {
            StartError::Listen { address, source } => CliError::Listen {
                address: address.to_string(),
                source,
            },
            StartError::Bill { path, source } => CliError::Write {
                path: path.display().to_string(),
                source,
            },
        })?;
    output::written(output::line(&server.base_url()))?;
    tokio::select! {
        () = interrupts.next() => {}
        () = end_of_stdin(), if args.until_stdin_closes => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn end_of_stdin() {
    // An error is an end, too. The thread may stay: nobody waits for it.
    let read = || io::copy(&mut io::stdin().lock(), &mut io::sink());
    let _ = tokio::task::spawn_blocking(read).await;
}
