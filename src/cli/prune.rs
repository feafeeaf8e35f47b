//! `graphmill prune`: deletes what has served its time, by age, and says what went.

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use clap::Args;
use graphmill_jobs::OrganizationId;
use serde::Serialize;

use super::{
    error::CliError,
    output,
    session::{Addresses, addresses},
};
use crate::{
    config::ServerArgs,
    store::{self, Schema, Space, Store, Vacuumed},
    workflow::{self, Ages, Pruned, PrunedKind},
};

/// Arguments of `prune`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags")]
pub(super) struct PruneArgs {
    /// Delete events of this age from the logs of batches that ended as long ago, for example `30d`.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    events_older_than: Option<Duration>,
    /// Delete the bodies of models' answers of this age: the same question is paid again from then on. What each call
    /// took and cost stays.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    answers_older_than: Option<Duration>,
    /// Delete batches that ended as long ago, with their documents and graphs.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    batches_older_than: Option<Duration>,
    /// Prune every organization.
    #[arg(long)]
    all_organizations: bool,
    /// Say what would go, and delete nothing.
    #[arg(long)]
    dry_run: bool,
    /// Leave it to autovacuum to make the room usable again.
    #[arg(long)]
    no_vacuum: bool,
    /// Rows that a step deletes; found by its speed without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=100_000), hide = true)]
    step_rows: Option<i64>,
    /// Print one object.
    #[arg(long)]
    json: bool,
}

/// What goes of a kind.
#[derive(Debug, Serialize)]
struct Gone {
    kind: PrunedKind,
    rows: u64,
    bytes: u64,
}

/// A table before and after.
#[derive(Debug, Serialize)]
struct Grown {
    table: String,
    before: i64,
    after: i64,
}

#[derive(Debug, Serialize)]
struct Report {
    dry_run: bool,
    gone: Vec<Gone>,
    /// Old batches that stay until their webhooks are delivered and their events moved.
    waiting: u64,
    decisions_kept: u64,
    /// `false`: left out, or the tables are not the login's; null: nothing was deleted.
    vacuumed: Option<bool>,
    /// Bytes on the disk.
    database: Option<Grown>,
    tables: Vec<Grown>,
}

pub(super) async fn prune(args: &ServerArgs, prune: PruneArgs) -> Result<ExitCode, CliError> {
    let ages = Ages {
        events: prune.events_older_than,
        answers: prune.answers_older_than,
        batches: prune.batches_older_than,
    };
    if ages.events.or(ages.answers).or(ages.batches).is_none() {
        return Err(CliError::Usage(
            "nothing is pruned without an age: give --events-older-than, --answers-older-than or \
             --batches-older-than"
                .to_owned(),
        ));
    }
    // Redis has nothing that grows.
    let args = ServerArgs {
        redis_url: Some("redis://unused".to_owned()),
        ..args.clone()
    };
    if let Some(own) = args.database_url()
        && let Schema::Behind { applied, known } = store::check_schema(own).await?
    {
        return Err(CliError::SchemaBehind { applied, known });
    }
    let Addresses {
        database_url,
        servers,
        ..
    } = addresses(&args, true).await?;
    let done = async {
        if args.database_url().is_none() {
            store::migrate(&database_url).await?;
        }
        let store = Store::connect(&database_url, &args.pools()).await?;
        let done = work(&store, &database_url, &args.organization, ages, &prune).await;
        store.close().await;
        done
    }
    .await;
    if let Some(servers) = servers {
        let _ = tokio::task::spawn_blocking(move || servers.stop()).await;
    }
    let report = done?;
    output::written(if prune.json {
        output::json(&report)
    } else {
        output::line(&text(&report))
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn work(
    store: &Store,
    url: &str,
    named: &str,
    ages: Ages,
    prune: &PruneArgs,
) -> Result<Report, CliError> {
    let before = sizes(store).await?;
    let mut pruned = Pruned::default();
    for organization in organizations(store, named, prune).await? {
        let done = workflow::prune(store, organization, ages, prune.dry_run, prune.step_rows);
        pruned.merge(done.await?);
    }
    let tables: BTreeSet<String> = pruned
        .gone
        .keys()
        .flat_map(|kind| kind.tables())
        .map(|&table| table.to_owned())
        .collect();
    let mut report = Report {
        dry_run: prune.dry_run,
        waiting: pruned.waiting,
        decisions_kept: pruned.decisions_kept,
        vacuumed: None,
        database: None,
        tables: Vec::new(),
        gone: pruned
            .gone
            .iter()
            .map(|(&kind, tally)| Gone {
                kind,
                rows: tally.rows,
                bytes: tally.bytes,
            })
            .collect(),
    };
    if prune.dry_run || report.gone.is_empty() {
        return Ok(report);
    }
    let touched: Vec<String> = tables.iter().cloned().collect();
    report.vacuumed =
        Some(!prune.no_vacuum && store::vacuum(url, &touched).await? == Vacuumed::Done);
    let after = sizes(store).await?;
    for (before, after) in before.into_iter().zip(after) {
        let grown = Grown {
            table: before
                .table
                .clone()
                .unwrap_or_else(|| "database".to_owned()),
            before: before.bytes,
            after: after.bytes,
        };
        match before.table {
            None => report.database = Some(grown),
            Some(table) if tables.contains(&table) => report.tables.push(grown),
            Some(_) => {}
        }
    }
    Ok(report)
}

async fn sizes(store: &Store) -> Result<Vec<Space>, CliError> {
    let mut connection = store.engine().await?;
    Ok(store::space(&mut connection).await?)
}

async fn organizations(
    store: &Store,
    named: &str,
    prune: &PruneArgs,
) -> Result<Vec<OrganizationId>, CliError> {
    let mut connection = store.engine().await?;
    let all = store::organizations_to_prune(&mut connection).await?;
    if prune.all_organizations {
        return Ok(all.into_iter().map(|(id, _)| id).collect());
    }
    all.into_iter()
        .find(|(_, name)| name == named)
        .map(|(id, _)| vec![id])
        .ok_or_else(|| CliError::Usage(format!("there is no organization `{named}`")))
}

fn text(report: &Report) -> String {
    let mut lines = Vec::new();
    if report.gone.is_empty() {
        lines.push("nothing is that old".to_owned());
    } else if report.dry_run {
        lines.push("would go:".to_owned());
    } else {
        lines.push("gone:".to_owned());
    }
    for gone in &report.gone {
        lines.push(format!(
            "  {:<11} {:>10} rows  {:>10}",
            gone.kind.as_str(),
            gone.rows,
            size(gone.bytes)
        ));
    }
    if report
        .gone
        .iter()
        .any(|gone| gone.kind == PrunedKind::Answers)
    {
        let pays = if report.dry_run { "would be" } else { "are" };
        lines.push(format!(
            "questions whose answers go {pays} paid again when they are asked again"
        ));
    }
    if report.waiting > 0 {
        lines.push(format!(
            "{} old batches stay for now: they have a webhook to deliver, or events that were not moved yet",
            report.waiting
        ));
    }
    if report.decisions_kept > 0 {
        lines.push(format!(
            "{} decisions stay, about what is left of their things",
            report.decisions_kept
        ));
    }
    if let Some(database) = &report.database {
        for grown in report.tables.iter().chain([database]) {
            if grown.before != grown.after || grown.table == database.table {
                lines.push(format!(
                    "  {:<19} {:>10} → {:>10} on disk",
                    grown.table,
                    size(grown.before.unsigned_abs()),
                    size(grown.after.unsigned_abs())
                ));
            }
        }
        lines.push(
            match report.vacuumed {
                Some(true) => {
                    "vacuumed: the room is used again by new rows; only `vacuum full` or pg_repack gives it back \
                     to the disk"
                }
                _ => "not vacuumed: autovacuum, or the owner of the tables, makes the room usable again",
            }
            .to_owned(),
        );
    }
    lines.join("\n")
}

/// Bytes for people.
#[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}
