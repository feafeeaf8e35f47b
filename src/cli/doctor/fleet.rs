//! What `doctor` looks at while a fleet works: leases, events, windows, sessions, dead rows. Each with a line that says
//! what to do.

use std::fmt::Write;

use super::Findings;
use crate::{
    flow::Stage,
    store::{Fleet, ServerLoad},
    worker,
};

/// How long a lease may have run out before somebody should look. **Source:** a worker that is killed is found within 16
/// seconds; twice that is trouble.
pub(super) const EXPIRED_SECONDS: i64 = 30;
/// How long an event may wait for its position. **Source:** it takes milliseconds; a new sequencer takes over within
/// seconds.
const OUTBOX_SECONDS: i64 = 10;
/// Dead rows from which on a table counts. **Source:** fewer cost nothing that anybody would notice.
pub(super) const DEAD_ROWS: i64 = 10_000;
/// The share of dead rows, in hundredths, that autovacuum does not allow unless something holds it back. **Source:** it
/// begins at 20, and again as many may come while it works.
const DEAD_SHARE: i64 = 50;

/// What nobody renews, and what nobody moves.
pub(super) fn fleet(all: &mut Findings, fleet: &Fleet, workers: i64) {
    let mut found = format!("{} held, {} ran out", fleet.leases, fleet.expired);
    let stuck = fleet
        .longest_expired
        .filter(|&(_, seconds)| seconds > EXPIRED_SECONDS);
    let mut remedy = String::new();
    if let Some((id, seconds)) = stuck {
        // Writing to a string does not fail.
        let _ = write!(found, "; {id} {seconds} s ago, and nobody took it over");
        remedy = if workers == 0 {
            "start a worker: graphmill worker".to_owned()
        } else {
            format!("graphmill execution show {id}; then look at the log of the workers")
        };
    }
    all.add("leases", stuck.is_none(), found, &remedy);

    let mut found = format!("{} events without a position", fleet.outbox);
    let stuck = fleet
        .oldest_event
        .filter(|&(_, seconds)| seconds > OUTBOX_SECONDS);
    let mut remedy = String::new();
    if let Some((batch, seconds)) = stuck {
        let _ = write!(found, "; the oldest waits for {seconds} s, of {batch}");
        remedy = if workers == 0 {
            "nobody moves them: start a worker (graphmill worker)".to_owned()
        } else {
            format!(
                "look for `{batch}` in the log of the workers: its row may be locked, or a newer version wrote it"
            )
        };
    }
    all.add("outbox", stuck.is_none(), found, &remedy);

    let found = if fleet.webhooks_idle {
        "due for a minute, and nobody attempts them"
    } else {
        "none lies idle"
    };
    let remedy = "start a worker with --notify-secret set, and look at its log";
    all.add("webhooks", !fleet.webhooks_idle, found, remedy);
}

/// What waits in Redis, of what is let in there at once.
pub(super) fn windows(all: &mut Findings, depths: [usize; 6], slots: [usize; 6]) {
    let of = |(stage, (depth, slots)): (Stage, (usize, usize))| {
        format!("{stage} {depth}/{}", worker::window(slots))
    };
    let both = || depths.into_iter().zip(slots);
    let found: Vec<String> = Stage::ALL.into_iter().zip(both()).map(of).collect();
    let deserted: Vec<&str> = Stage::ALL
        .into_iter()
        .zip(both())
        .filter(|&(_, (depth, slots))| depth > 0 && slots == 0)
        .map(|(stage, _)| stage.as_str())
        .collect();
    let remedy = format!(
        "no living worker takes {}: start one (graphmill worker)",
        deserted.join(", ")
    );
    all.add("window", deserted.is_empty(), found.join(", "), &remedy);
}

/// What the server's sessions and tables are at. `slow` seconds are long.
pub(super) fn server(all: &mut Findings, load: &ServerLoad, slow: f64) {
    let mut found = format!("none over {slow} s");
    let mut remedy = String::new();
    if let Some(first) = load.slow.first() {
        let each = load.slow.iter().map(|session| {
            let waits = session
                .waits_for
                .as_ref()
                .map_or_else(String::new, |what| format!(", waits for {what}"));
            format!(
                "{} `{}` {} for {} s{waits}",
                session.pid, session.application, session.state, session.seconds
            )
        });
        found = each.collect::<Vec<_>>().join("; ");
        remedy = format!(
            "it keeps dead rows alive and may hold locks: end it where it comes from, or with \
             `select pg_terminate_backend({})`",
            first.pid
        );
    }
    all.add("slow sessions", load.slow.is_empty(), found, &remedy);

    let held: Vec<_> = load
        .bloat
        .iter()
        .filter(|table| table.dead * 100 > DEAD_SHARE * (table.dead + table.live))
        .collect();
    let found = if load.bloat.is_empty() {
        format!("no table has {DEAD_ROWS} dead rows")
    } else {
        let each = load.bloat.iter().map(|table| {
            let share = table.dead * 100 / (table.dead + table.live).max(1);
            format!(
                "{} {share} % dead ({} rows, {} MiB)",
                table.table,
                table.dead,
                table.bytes >> 20
            )
        });
        each.collect::<Vec<_>>().join(", ")
    };
    let remedy = held.first().map_or_else(String::new, |table| {
        format!(
            "`vacuum (analyze) {}`, and see why autovacuum does not come: long transactions (slow sessions), or \
             autovacuum is off",
            table.table
        )
    });
    all.add("dead rows", held.is_empty(), found, &remedy);

    if let Some(statements) = &load.statements {
        let each = statements.iter().map(|statement| {
            format!(
                "{:.1} ms × {}: {}",
                statement.mean_ms, statement.calls, statement.begins
            )
        });
        let found = each.collect::<Vec<_>>().join("; ");
        all.add("slowest on average", true, found, "");
    }
}
