//! `graphmill doctor`: what is there, what is wrong, and what to do.

mod fleet;

use std::{fmt::Write, process::ExitCode, time::Duration};

use clap::Args;
use serde::Serialize;

use super::{
    error::{CliError, SERVER},
    output,
    session::{Addresses, addresses, what_runs},
};
use crate::{
    config::ServerArgs,
    queue::{Queue, QueueError, SetAside, Submissions},
    store::{self, Schema, Store, StoreError, Work},
    telemetry,
};

/// Entries of queues that nobody could read, which are counted at most; Redis keeps no more.
const SET_ASIDE: usize = 1000;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// A session of the database that is at one statement or transaction for longer is told of.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    slow: Duration,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Debug, Serialize)]
struct Findings {
    ok: bool,
    version: &'static str,
    checks: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, check: &'static str, ok: bool, found: impl Into<String>, remedy: &str) {
        self.ok &= ok;
        let remedy = (!ok && !remedy.is_empty()).then(|| remedy.to_owned());
        self.checks.push(Finding {
            check,
            ok,
            found: found.into(),
            remedy,
        });
    }
}

pub(super) async fn doctor(args: &ServerArgs, doctor: DoctorArgs) -> Result<ExitCode, CliError> {
    let mut all = Findings {
        ok: true,
        version: env!("CARGO_PKG_VERSION"),
        checks: Vec::new(),
    };
    match addresses(args, true).await {
        Ok(addresses) => {
            let found = addresses.servers.as_ref().map_or_else(
                || "your own (DATABASE_URL, REDIS_URL)".to_owned(),
                what_runs,
            );
            all.add("servers", true, found, "");
            postgres(&mut all, args, doctor.slow, &addresses).await;
            redis(&mut all, &addresses).await;
            if let Some(servers) = addresses.servers {
                let _ = tokio::task::spawn_blocking(move || servers.stop()).await;
            }
        }
        Err(error) => all.add(
            "servers",
            false,
            telemetry::causes(&error),
            // The message has it.
            "",
        ),
    }
    output::written(if doctor.json {
        output::json(&all)
    } else {
        output::line(&text(&all))
    })?;
    Ok(if all.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(SERVER)
    })
}

async fn postgres(all: &mut Findings, args: &ServerArgs, slow: Duration, addresses: &Addresses) {
    let url = &addresses.database_url;
    let schema = match store::check_schema(url).await {
        Ok(schema) => schema,
        Err(error) => {
            let remedy = "start the server, or correct DATABASE_URL";
            return all.add("Postgres", false, telemetry::causes(&error), remedy);
        }
    };
    let private = args.database_url().is_none();
    if private && let Err(error) = store::migrate(url).await {
        return all.add(
            "schema",
            false,
            telemetry::causes(&error),
            "look at the server's log",
        );
    }
    match (schema, private) {
        (Schema::Behind { applied, known }, false) => {
            let found = format!("version {applied}, this graphmill needs {known}");
            return all.add("schema", false, found, "graphmill migrate");
        }
        (Schema::Ahead { applied, known }, _) => {
            let found = format!("version {applied}, newer than this graphmill's {known}");
            all.add("schema", true, found, "");
        }
        (Schema::Current, _) | (Schema::Behind { .. }, true) => {
            all.add("schema", true, "up to date", "");
        }
    }
    let looked = async {
        let store = Store::connect(url, &args.pools()).await?;
        Ok::<_, StoreError>((
            store::health(&store).await?,
            store::work(&store).await?,
            store::fleet(&store).await?,
            store::server_load(url, slow.as_secs_f64(), fleet::DEAD_ROWS).await?,
        ))
    };
    let (health, work, at_work, load) = match looked.await {
        Ok(looked) => looked,
        Err(error) => {
            let remedy = "grant graphmill_app and graphmill_engine to the login of DATABASE_URL";
            return all.add("Postgres", false, telemetry::causes(&error), remedy);
        }
    };
    all.add(
        "Postgres",
        health.version >= 150_000,
        format!(
            "version {}.{}",
            health.version / 10_000,
            health.version % 10_000
        ),
        "install Postgres 15 or later",
    );
    all.add(
        "connections",
        health.max_connections - load.connections >= i64::from(args.connections),
        format!(
            "{} of {} used, this process may open {}",
            load.connections, health.max_connections, args.connections
        ),
        "raise max_connections of Postgres, or lower --connections of the replicas",
    );
    all.add(
        "durability",
        health.fsync && health.synchronous_commit,
        format!(
            "fsync {}, synchronous_commit {}",
            on(health.fsync),
            on(health.synchronous_commit)
        ),
        "switch both on: without them a crash of the machine loses paid work",
    );
    all.add(
        "roles",
        health.roles_are_safe,
        if health.roles_are_safe {
            "can't bypass row security"
        } else {
            "may bypass row security"
        },
        "alter role graphmill_app nosuperuser nobypassrls; the same for graphmill_engine",
    );
    all.add(
        "workers",
        true,
        format!("{} seen in the last minute", health.workers),
        "",
    );
    worked(all, &work, health.workers);
    fleet::fleet(all, &at_work, health.workers);
    fleet::server(all, &load, slow.as_secs_f64());
}

/// How long an execution may wait for a worker before somebody should look: a lease, a sweep and a ring.
const IDLE_SECONDS: i64 = 30;

/// What waits although it could be worked.
fn worked(all: &mut Findings, work: &Work, workers: i64) {
    let (idle, waiting) = (work.idle, work.waiting);
    let mut found = format!("{} in work, {idle} wait for a worker", work.in_work);
    if waiting > 0 {
        let more = if waiting >= 1000 { " or more" } else { "" };
        // Writing to a string does not fail.
        let _ = write!(found, ", {waiting}{more} for a slot");
    }
    if work.paused_batches > 0 {
        let _ = write!(found, ", {} batches paused", work.paused_batches);
    }
    let mut remedy = None;
    if let Some((id, seconds)) = work
        .longest_idle
        .filter(|&(_, seconds)| seconds > IDLE_SECONDS)
    {
        let _ = write!(found, "; {id} for {seconds} s");
        remedy = Some(format!(
            "graphmill execution show {id}, and look at the log of the workers"
        ));
    }
    if workers == 0 && idle + waiting > 0 {
        remedy = Some("start a worker: graphmill worker".to_owned());
    }
    all.add("work", remedy.is_none(), found, &remedy.unwrap_or_default());
}

async fn redis(all: &mut Findings, addresses: &Addresses) {
    let looked = async {
        let queue = Queue::connect(&addresses.redis_url).await?;
        Ok::<_, QueueError>((
            queue.check().await?,
            queue.depths().await?,
            queue.live_slots().await?,
            Submissions::new(&queue).depth().await?,
            queue.set_aside(SET_ASIDE).await?,
        ))
    };
    let (health, depths, slots, submissions, aside) = match looked.await {
        Ok(looked) => looked,
        Err(error) => {
            let remedy = "start the server, or correct REDIS_URL";
            return all.add("Redis", false, telemetry::causes(&error), remedy);
        }
    };
    all.add(
        "Redis",
        health.recent_enough,
        format!("version {}", health.version),
        "install Redis 6.2 or later, or Valkey",
    );
    all.add(
        "eviction",
        health.noeviction,
        format!("maxmemory-policy {}", health.maxmemory_policy),
        "set maxmemory-policy noeviction: an evicted job waits until it is rung for again",
    );
    let (used, most) = (health.used_memory, health.max_memory);
    let limit = match most {
        0 => "no limit".to_owned(),
        most => format!("of {}", mebibytes(most)),
    };
    all.add(
        "Redis memory",
        most == 0 || used < most / 10 * 9,
        format!("{} used, {limit}", mebibytes(used)),
        "raise maxmemory: jobs are refused without room, and work waits",
    );
    let nobody = slots.iter().sum::<usize>() == 0;
    fleet::windows(all, depths, slots);
    let mut found = format!("{submissions} wait, {} set aside", aside.len());
    if let Some(SetAside { id, reason, .. }) = aside.first() {
        // Writing to a string does not fail.
        let _ = write!(found, "; the newest, {id}: {reason}");
    }
    all.add(
        "submissions",
        submissions == 0 || !nobody,
        found,
        "they are taken in by workers: graphmill worker",
    );
    // For stages Redis is a doorbell: without a log it only costs a second round of ringing after a restart.
    all.add(
        "append-only file",
        true,
        format!(
            "{} (needed for submissions that wait for their receipt, for nothing else)",
            on(health.append_only)
        ),
        "",
    );
}

fn text(all: &Findings) -> String {
    let mut lines = vec![format!("graphmill {}", all.version)];
    for finding in &all.checks {
        let mark = if finding.ok { "ok  " } else { "FAIL" };
        lines.push(format!("{mark} {:<17} {}", finding.check, finding.found));
        if let Some(remedy) = &finding.remedy {
            lines.push(format!("     {:<17} → {remedy}", ""));
        }
    }
    lines.join("\n")
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

const fn on(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}
