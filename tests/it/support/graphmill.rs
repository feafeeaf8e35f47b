//! The program itself, as a process of its own, on a migrated database and a Redis.

use std::process::Command;

use super::{Database, Redis, template};

/// A database with the whole schema.
pub(crate) async fn migrated() -> Database {
    let template =
        template(async |url: &str| ::graphmill::store::migrate(url).await.unwrap()).await;
    Database::clone_of(template).await
}

/// `graphmill` with these servers and nothing else of the environment's settings.
pub(crate) fn command(database: &Database, redis: &Redis) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_graphmill"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GRAPHMILL_") {
            command.env_remove(name);
        }
    }
    command
        .env("DATABASE_URL", database.url())
        .env("REDIS_URL", redis.url());
    command
}
