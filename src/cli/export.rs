//! `graphmill export`.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use graphmill_jobs::{BatchId, OrganizationId};

use super::{batch::find, error::CliError, session::Session};
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
    let batch = find(&session, &args.batch).await?;
    if let Some(path) = &args.output {
        to_file(&session.store, batch, args.format, path).await?;
    } else {
        let out = BufWriter::new(io::stdout());
        let organization = OrganizationId::DEFAULT;
        match workflow::export(&session.store, organization, batch, args.format, out).await {
            // A closed pipe is the reader's choice.
            Ok(mut out) => drop(out.flush()),
            Err(ExportFailure::Write(ExportError::Write(error)))
                if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error.into()),
        }
    }
    session.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Exports to a file, which is there whole or not at all.
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
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let out = BufWriter::new(File::create(&partial).map_err(write)?);
    let out = workflow::export(store, OrganizationId::DEFAULT, batch, format, out).await?;
    let file = out
        .into_inner()
        .map_err(|error| write(error.into_error()))?;
    file.sync_all().map_err(write)?;
    std::fs::rename(&partial, path).map_err(write)
}
