//! `graphmill migrate`.

use std::process::ExitCode;

use super::{
    error::CliError,
    output,
    session::{Addresses, addresses},
};
use crate::{
    config::ServerArgs,
    store::{self, Schema},
};

pub(super) async fn migrate(args: &ServerArgs) -> Result<ExitCode, CliError> {
    // Redis has no schema.
    let args = ServerArgs {
        redis_url: Some("redis://unused".to_owned()),
        ..args.clone()
    };
    let Addresses {
        database_url,
        servers,
        ..
    } = addresses(&args, false).await?;
    let before = store::check_schema(&database_url).await?;
    store::migrate(&database_url).await?;
    output::note(&match before {
        Schema::Current => "the schema is up to date".to_owned(),
        Schema::Behind { applied, known } => {
            format!("migrated the schema from version {applied} to {known}")
        }
        Schema::Ahead { applied, known } => format!(
            "the schema is at version {applied}, newer than this graphmill's {known}: nothing to do"
        ),
    });
    if let Some(servers) = servers {
        let _ = tokio::task::spawn_blocking(move || servers.stop()).await;
    }
    Ok(ExitCode::SUCCESS)
}
