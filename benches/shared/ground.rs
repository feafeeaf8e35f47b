//! Where benchmarks take place: servers of their own, with the schema.

use std::path::PathBuf;

use anyhow::{Context, Result};
use graphmill::{
    servers::{self, Servers},
    store,
};

/// Starts private servers below `folder`, and migrates.
pub(crate) async fn servers(folder: impl Into<PathBuf>) -> Result<Servers> {
    #[expect(clippy::disallowed_methods, reason = "a bench has no config room")]
    let search_path = std::env::var_os("PATH");
    let settings = servers::Settings {
        search_path,
        ..servers::Settings::new(folder)
    };
    let servers = tokio::task::spawn_blocking(|| Servers::start(settings)).await??;
    store::migrate(servers.database_url().context("no database")?).await?;
    Ok(servers)
}
