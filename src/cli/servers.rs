//! `graphmill servers`: keeps the private servers running, for a command or until stopped.

use std::{
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitCode, ExitStatus},
};

use clap::Args;
use tokio::process::Command;

use super::{
    error::CliError,
    output,
    run::Interrupts,
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
    /// Migrate a private database with the files of this folder, not with those that are built in.
    #[arg(long, value_name = "FOLDER", hide = true)]
    migrations: Option<PathBuf>,
}

pub(super) async fn servers(args: &ServerArgs, wanted: ServersArgs) -> Result<ExitCode, CliError> {
    let Addresses {
        database_url,
        redis_url,
        servers,
    } = addresses(args, false).await?;
    if args.database_url().is_none() {
        match &wanted.migrations {
            Some(folder) => store::migrate_from(&database_url, folder).await?,
            None => store::migrate(&database_url).await?,
        }
    }
    let done = match wanted.command.split_first() {
        None => {
            let mut interrupts = Interrupts::listen();
            let told = output::line(&format!(
                "DATABASE_URL='{database_url}'\nREDIS_URL='{redis_url}'"
            ));
            match output::written(told) {
                Ok(()) => {
                    interrupts.next().await;
                    Ok(ExitCode::SUCCESS)
                }
                Err(error) => Err(error),
            }
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
