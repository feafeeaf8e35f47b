//! `graphmill organization create|list|set`: who owns batches, and what each may ask for and have.
//!
//! Works as the database's own role, as `migrate` does: neither requests nor workers may do this.

use std::{process::ExitCode, str::FromStr};

use chrono::SecondsFormat;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{error::CliError, output, session::Session};
use crate::{
    config::ServerArgs,
    flow::RequestRate,
    store::{self, Connection, Organization, OrganizationLimits},
    workflow,
};

/// Arguments of `organization`.
#[derive(Debug, Args)]
pub(super) struct OrganizationArgs {
    #[command(subcommand)]
    command: OrganizationCommand,
}

#[derive(Debug, Subcommand)]
enum OrganizationCommand {
    /// Make an organization; it sees nothing of any other, and nobody sees anything of it.
    Create {
        /// Its name; unique.
        #[arg(value_parser = name)]
        name: String,
    },
    /// List the organizations, with what each may ask for and have.
    List {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Set what an organization may ask for and have; what is not given stays as it is.
    Set {
        /// Its name.
        name: String,
        #[command(flatten)]
        limits: LimitArgs,
    },
}

/// What an organization may ask for and have.
#[derive(Debug, Clone, Copy, Args)]
#[group(required = true, multiple = true)]
struct LimitArgs {
    /// Requests of the HTTP API a second, over all replicas, or `none`.
    #[arg(long, value_name = "N", value_parser = limit::<1, 1_000_000>)]
    requests_per_second: Option<Limit>,
    /// Requests that may come at once after a pause; `none` is those of one second.
    #[arg(long, value_name = "N", value_parser = limit::<1, 1_000_000>)]
    burst: Option<Limit>,
    /// Batches that have not ended, or `none`.
    #[arg(long, value_name = "N", value_parser = limit::<0, 1_000_000_000>)]
    max_open_batches: Option<Limit>,
    /// Documents that are stored, over all batches, or `none`.
    #[arg(long, value_name = "N", value_parser = limit::<0, 1_000_000_000_000>)]
    max_documents: Option<Limit>,
}

/// A number, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    None,
    At(u64),
}

fn limit<const LEAST: u64, const MOST: u64>(text: &str) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit::None);
    }
    u64::from_str(text)
        .ok()
        .filter(|number| (LEAST..=MOST).contains(number))
        .map(Limit::At)
        .ok_or_else(|| format!("a whole number within {LEAST} to {MOST}, or `none`"))
}

impl Limit {
    fn over(given: Option<Self>, now: Option<u64>) -> Option<u64> {
        match given {
            None => now,
            Some(Self::None) => None,
            Some(Self::At(number)) => Some(number),
        }
    }
}

/// A name that people know something by.
pub(super) fn name(text: &str) -> Result<String, String> {
    if workflow::is_name(text) {
        Ok(text.to_owned())
    } else {
        Err("a name has 1 to 200 characters, none of them a control character".to_owned())
    }
}

pub(super) async fn organization(
    servers: &ServerArgs,
    args: OrganizationArgs,
) -> Result<ExitCode, CliError> {
    let session = Session::open(servers, true).await?;
    let done = work(&session, args.command).await;
    session.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn work(session: &Session, command: OrganizationCommand) -> Result<(), CliError> {
    let mut owner = store::as_owner(&session.database_url).await?;
    match command {
        OrganizationCommand::Create { name } => {
            let added = store::add_organization(&mut owner, &name).await?;
            let Some(id) = added else {
                return Err(CliError::Usage(format!(
                    "there is an organization `{name}` already"
                )));
            };
            output::written(output::line(&id.to_string()))?;
            output::note(&format!(
                "organization `{name}`: `graphmill keys create NAME --organization {name}` gives it a key"
            ));
        }
        OrganizationCommand::List { json } => list(&mut owner, json).await?,
        OrganizationCommand::Set { name, limits } => set(&mut owner, &name, limits).await?,
    }
    Ok(())
}

async fn list(owner: &mut Connection, json: bool) -> Result<(), CliError> {
    let organizations = store::organizations(owner).await?;
    if json {
        let organizations: Vec<_> = organizations
            .iter()
            .map(|one| {
                json!({
                    "organization": one.id,
                    "name": one.name,
                    "created_at": one.created_at.to_rfc3339_opts(SecondsFormat::Secs, true),
                    "requests_per_second": one.limits.rate.map(|rate| rate.per_second),
                    "burst": one.limits.rate.map(|rate| rate.burst),
                    "max_open_batches": one.limits.open_batches,
                    "max_documents": one.limits.documents,
                })
            })
            .collect();
        let all = json!({ "organizations": organizations });
        return output::written(output::json(&all));
    }
    for one in organizations {
        output::written(output::line(&for_people(&one)))?;
    }
    Ok(())
}

fn for_people(one: &Organization) -> String {
    let OrganizationLimits {
        rate,
        open_batches,
        documents,
    } = one.limits;
    let said: Vec<String> = [
        rate.map(|rate| {
            format!(
                "{} requests a second ({} at once)",
                rate.per_second, rate.burst
            )
        }),
        open_batches.map(|most| format!("{most} open batches")),
        documents.map(|most| format!("{most} documents")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let limits = match said[..] {
        [] => "no limits".to_owned(),
        _ => format!("at most {}", said.join(", ")),
    };
    format!("{}  {}  {limits}", one.id, one.name)
}

async fn set(owner: &mut Connection, name: &str, given: LimitArgs) -> Result<(), CliError> {
    let found = store::organizations(owner).await?;
    let Some(mut one) = found.into_iter().find(|one| one.name == name) else {
        return Err(unknown(name));
    };
    let now = one.limits;
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let per_second = now.rate.map(|rate| rate.per_second.into());
    let per_second = Limit::over(given.requests_per_second, per_second);
    // A burst that was not asked for goes with the rate.
    let burst = now.rate.filter(|rate| rate.burst != rate.per_second);
    let burst = Limit::over(given.burst, burst.map(|rate| rate.burst.into()));
    if per_second.is_none() && matches!(given.burst, Some(Limit::At(_))) {
        return Err(CliError::Usage(
            "--burst needs --requests-per-second".to_owned(),
        ));
    }
    one.limits = OrganizationLimits {
        rate: per_second.map(|per_second| RequestRate {
            per_second: small(per_second),
            burst: small(burst.unwrap_or(per_second)),
        }),
        open_batches: Limit::over(given.max_open_batches, now.open_batches.map(u64::from))
            .map(small),
        documents: Limit::over(given.max_documents, now.documents),
    };
    store::set_organization_limits(owner, one.id, one.limits).await?;
    output::note(&for_people(&one));
    Ok(())
}

/// There is no organization with this name.
pub(super) fn unknown(name: &str) -> CliError {
    CliError::Usage(format!(
        "there is no organization `{name}`: `graphmill organization list` shows them"
    ))
}
