//! `graphmill export`.

mod destination;

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use graphmill_jobs::BatchId;

pub(super) use destination::Destination;

use super::{batch::find, error::CliError, output, session::Session};
use crate::{
    config::ServerArgs,
    graph::{BaseIri, ExportError, ExportFormat, ExportStyle},
    workflow::{self, ExportFailure},
};

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The batch's id or name.
    batch: String,
    /// json, turtle, json-ld, graphml or cypher: one file; csv: a folder of tables.
    #[arg(long, default_value = "json")]
    format: ExportFormat,
    /// The file to write, or the folder of csv; stdout without it.
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// What the IRIs of turtle and json-ld begin with (urn:graphmill: without it).
    #[arg(long, value_name = "IRI")]
    base_iri: Option<BaseIri>,
}

pub(super) async fn export(servers: &ServerArgs, args: ExportArgs) -> Result<ExitCode, CliError> {
    let style = style(&args)?;
    let destination = args.output.clone().map(|path| Destination {
        style: style.clone(),
        path,
    });
    if let Some(destination) = &destination {
        destination.check()?;
    }
    let session = Session::open(servers, true).await?;
    let done = async {
        let batch = find(&session, &args.batch).await?;
        match &destination {
            Some(destination) => destination.write(&session, batch).await,
            None => to_stdout(&session, batch, &style).await,
        }
    }
    .await;
    session.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

fn style(args: &ExportArgs) -> Result<ExportStyle, CliError> {
    let format = args.format;
    if args.base_iri.is_some() && !format.has_iris() {
        return Err(CliError::Usage(format!(
            "--base-iri is for turtle and json-ld: {format} has no IRIs"
        )));
    }
    if format.is_folder() && args.output.is_none() {
        return Err(CliError::Usage(format!(
            "{format} is a folder of tables: say where with --output FOLDER"
        )));
    }
    Ok(ExportStyle {
        format,
        base: args.base_iri.clone().unwrap_or_default(),
    })
}

async fn to_stdout(session: &Session, batch: BatchId, style: &ExportStyle) -> Result<(), CliError> {
    let organization = session.organization;
    let open = |_| Ok(BufWriter::new(io::stdout()));
    match workflow::export_with(&session.store, organization, batch, style, open).await {
        Ok(outs) => outs
            .into_iter()
            .try_for_each(|mut out| output::written(out.flush())),
        // A closed pipe is the reader's choice.
        Err(ExportFailure::Write(ExportError::Write(error)))
            if error.kind() == io::ErrorKind::BrokenPipe =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
