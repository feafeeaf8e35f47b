//! `graphmill export`.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use graphmill_jobs::{BatchId, OrganizationId};

use super::{batch::find, error::CliError, output, session::Session};
use crate::{
    config::ServerArgs,
    graph::{ExportError, ExportFormat},
    store::Store,
    workflow::{self, ExportFailure},
};

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The batch's id or name.
    batch: String,
    /// json: one object with everything; csv: one table of entities, relations and clusters.
    #[arg(long, default_value = "json")]
    format: ExportFormat,
    /// The file to write; stdout without it.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn export(servers: &ServerArgs, args: ExportArgs) -> Result<ExitCode, CliError> {
    let session = Session::open(servers, true).await?;
    let done = work(&session, &args).await;
    session.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn work(session: &Session, args: &ExportArgs) -> Result<(), CliError> {
    let batch = find(session, &args.batch).await?;
    if let Some(path) = &args.output {
        check_destination(path)?;
        to_file(&session.store, batch, args.format, path).await?;
    } else {
        let out = BufWriter::new(io::stdout());
        let organization = OrganizationId::DEFAULT;
        match workflow::export(&session.store, organization, batch, args.format, out).await {
            Ok(mut out) => output::written(out.flush())?,
            // A closed pipe is the reader's choice.
            Err(ExportFailure::Write(ExportError::Write(error)))
                if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Exports to a file, which is there whole or not at all; straight to a pipe or a device.
pub(super) async fn to_file(
    store: &Store,
    batch: BatchId,
    format: ExportFormat,
    path: &Path,
) -> Result<(), CliError> {
    let write = |source| CliError::Write {
        path: path.display().to_string(),
        source,
    };
    let organization = OrganizationId::DEFAULT;
    if is_special(path) {
        let out = BufWriter::new(File::options().write(true).open(path).map_err(write)?);
        let mut out = workflow::export(store, organization, batch, format, out).await?;
        return out.flush().map_err(write);
    }
    let partial = partial(path);
    let done = async {
        let out = BufWriter::new(File::create(&partial).map_err(write)?);
        let out = workflow::export(store, organization, batch, format, out).await?;
        let file = out
            .into_inner()
            .map_err(|error| write(error.into_error()))?;
        file.sync_all().map_err(write)?;
        std::fs::rename(&partial, path).map_err(write)
    }
    .await;
    if done.is_err() {
        // What is half an export is of no use to anybody.
        let _ = std::fs::remove_file(&partial);
    }
    done
}

/// A file that can't be written is better said before an hour's work than after it.
pub(super) fn check_destination(path: &Path) -> Result<(), CliError> {
    if is_special(path) {
        return Ok(());
    }
    let partial = partial(path);
    let tried = if path.is_dir() {
        Err(io::ErrorKind::IsADirectory.into())
    } else {
        File::create(&partial).and_then(|_| std::fs::remove_file(&partial))
    };
    tried.map_err(|source| CliError::Write {
        path: path.display().to_string(),
        source,
    })
}

/// Whether something is there that must not be replaced by a file.
fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir())
}

/// What a file is called until it is whole.
fn partial(path: &Path) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    partial.into()
}
