//! `graphmill servers`: keeps the private servers running, for a command or until stopped.

use std::{
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
};

use clap::Args;
use tokio::process::Command;

use super::{
    error::CliError,
    output,
    run::interrupted,
    session::{Addresses, addresses},
};
use crate::{config::ServerArgs, store};

/// Arguments of `servers`.
#[derive(Debug, Args)]
pub(super) struct ServersArgs {
    /// A command to run with `DATABASE_URL` and `REDIS_URL` set, for example `-- psql`; without it, they run until
    /// stopped.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) async fn servers(args: &ServerArgs, wanted: ServersArgs) -> Result<ExitCode, CliError> {
    let Addresses {
        database_url,
        redis_url,
        servers,
    } = addresses(args, false).await?;
    if args.database_url().is_none() {
        store::migrate(&database_url).await?;
    }
    let done = match wanted.command.split_first() {
        None => {
            // A closed pipe is the reader's choice.
            let _ = output::line(&format!(
                "DATABASE_URL='{database_url}'\nREDIS_URL='{redis_url}'"
            ));
            interrupted().await;
            Ok(ExitCode::SUCCESS)
        }
        Some((program, arguments)) => Command::new(program)
            .args(arguments)
            .env("DATABASE_URL", &database_url)
            .env("REDIS_URL", &redis_url)
            .status()
            .await
            .map(exit_code)
            .map_err(|error| CliError::Usage(format!("`{program}` can't be run: {error}"))),
    };
    if let Some(servers) = servers {
        let _ = tokio::task::spawn_blocking(move || servers.stop()).await;
    }
    done
}

/// The command's own exit code, or 128 and its signal, as a shell has it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
