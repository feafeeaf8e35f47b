//! `graphmill keys create|list|revoke`: who may ask over HTTP.

use std::{process::ExitCode, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{error::CliError, organization, output, session::Session};
use crate::{
    config::ServerArgs,
    keys::{self, FRESH, IssueError, NewKey, prefix_in},
    store::{self, ApiKey, Scope, StoreError},
};

/// Arguments of `keys`.
#[derive(Debug, Args)]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a key, and print it this once.
    Create {
        /// What you know it by: who has it, or what it is for.
        #[arg(value_parser = organization::name)]
        name: String,
        /// What it may do; each may do what those before it may.
        #[arg(long, value_name = "SCOPE", default_value = "write", value_parser = scope())]
        scope: Scope,
        /// How long it may do so (`90d`); without it, until it is revoked.
        #[arg(long, value_name = "TIME", value_parser = life)]
        expires: Option<Duration>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// List the keys, those that were revoked or have expired too.
    List {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Take a key back: within seconds it lets nobody in.
    Revoke {
        /// What the key begins with, as `list` shows it.
        key: String,
    },
}

/// The scopes, so that a wrong one is answered with the right ones.
fn scope() -> impl clap::builder::TypedValueParser<Value = Scope> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(Scope::ALL.map(Scope::as_str)).try_map(|name| name.parse::<Scope>())
}

/// The longest life of a key, which a database's clock can still add: a thousand years.
const LONGEST_LIFE: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

fn life(text: &str) -> Result<Duration, String> {
    let life = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if life.is_zero() || life > LONGEST_LIFE {
        return Err("a key lives longer than 0s, and no longer than a thousand years".to_owned());
    }
    Ok(life)
}

pub(super) async fn keys(servers: &ServerArgs, args: KeysArgs) -> Result<ExitCode, CliError> {
    let session = Session::open(servers, true).await?;
    let done = match args.command {
        KeysCommand::Create {
            name,
            scope,
            expires,
            json,
        } => {
            let new = NewKey {
                name: &name,
                scope,
                expires,
            };
            create(&session, &new, json).await
        }
        KeysCommand::List { json } => list(&session, json).await,
        KeysCommand::Revoke { key } => revoke(&session, &key).await,
    };
    session.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn create(session: &Session, new: &NewKey<'_>, json: bool) -> Result<(), CliError> {
    let organization = session.organization;
    let mut transaction = session.store.app(organization).await?;
    let issued = keys::issue(&mut transaction, organization, new).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    let prefix = format!("gm_{}", issued.key.prefix());
    if json {
        return output::written(output::json(&json!({
            "key": issued.key.reveal(),
            "prefix": prefix,
            "name": new.name,
            "scope": new.scope.as_str(),
            "organization": organization,
            "expires_at": issued.expires_at.map(time),
        })));
    }
    output::written(output::line(&issued.key.reveal()))?;
    let until = match issued.expires_at {
        Some(at) => format!("until {}", time(at)),
        None => "until it is revoked".to_owned(),
    };
    output::note(&format!(
        "key `{}` may {} {until}; it is not shown again (`graphmill keys revoke {prefix}` takes it back)",
        new.name,
        new.scope.as_str(),
    ));
    Ok(())
}

async fn list(session: &Session, json: bool) -> Result<(), CliError> {
    let organization = session.organization;
    let mut transaction = session.store.app(organization).await?;
    let keys = store::api_keys(&mut transaction, organization).await?;
    drop(transaction);
    if json {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| {
                json!({
                    "prefix": format!("gm_{}", key.prefix),
                    "name": key.name,
                    "scope": key.scope.as_str(),
                    "state": state(key),
                    "created_at": time(key.created_at),
                    "expires_at": key.expires_at.map(time),
                    "revoked_at": key.revoked_at.map(time),
                    "last_used_at": key.last_used_at.map(time),
                })
            })
            .collect();
        return output::written(output::json(&json!({ "keys": keys })));
    }
    for key in keys {
        let or_never = |at: Option<DateTime<Utc>>| at.map_or_else(|| "never".to_owned(), time);
        output::written(output::line(&format!(
            "gm_{}  {:<8} {:<5}  used {}  ends {}  {}",
            key.prefix,
            state(&key),
            key.scope.as_str(),
            or_never(key.last_used_at),
            or_never(key.expires_at),
            key.name,
        )))?;
    }
    Ok(())
}

const fn state(key: &ApiKey) -> &'static str {
    if key.revoked_at.is_some() {
        "revoked"
    } else if key.expired {
        "expired"
    } else {
        "active"
    }
}

async fn revoke(session: &Session, key: &str) -> Result<(), CliError> {
    let organization = session.organization;
    let prefix = prefix_in(key);
    let mut transaction = session.store.app(organization).await?;
    let revoked = store::revoke_api_key(&mut transaction, organization, prefix).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    if !revoked {
        // What was given may be a whole key.
        return Err(CliError::Usage(
            "the organization has no key that begins so: `graphmill keys list` shows them"
                .to_owned(),
        ));
    }
    output::note(&format!(
        "gm_{prefix} lets nobody in any more; servers that let it in just now notice within {} s",
        FRESH.as_secs()
    ));
    Ok(())
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

impl From<IssueError> for CliError {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Store(error) => Self::Store(error),
            IssueError::Random(_) => Self::Runtime(std::io::Error::other(error)),
        }
    }
}
