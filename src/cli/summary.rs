//! What people read at the end.

use std::{
    fmt::{Display, Write},
    path::Path,
    time::Duration,
};

use crate::{
    graph::DocumentGraph,
    workflow::{BatchDetails, BatchReport, ProgressReport, WebhookReport},
};

/// Failures that a summary spells out.
const FAILURES: usize = 10;

/// The summary of a run: what was found, who is busiest, what failed and why, where to look next.
pub(super) fn report(
    report: &BatchReport,
    busiest: &[(String, String, u64, u64)],
    exported: Option<&Path>,
) -> String {
    let documents = &report.documents;
    let took = humantime::format_duration(Duration::from_millis(report.duration_ms));
    let mut text = format!(
        "{}: {} in {took}\n",
        report.name,
        report.state.to_lowercase()
    );
    let mut parts = vec![format!("{} completed", documents.completed)];
    for (count, what) in [
        (documents.partial, "partial"),
        (documents.failed, "failed"),
        (documents.abandoned, "abandoned"),
        (documents.cancelled, "cancelled"),
        (documents.refused, "refused"),
        (documents.duplicate, "duplicate"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    line(
        &mut text,
        format!("  documents  {} ({})", documents.total, parts.join(", ")),
    );
    line(
        &mut text,
        format!(
            "  found      {} entities, {} relations; {} things across documents",
            report.entities, report.relations, report.clusters
        ),
    );
    line(
        &mut text,
        format!(
            "  calls      {} made, {} reused",
            report.calls.made, report.calls.reused
        ),
    );
    if let Some(spent) = &report.calls.spent {
        line(
            &mut text,
            format!(
                "  spent      ${:.4}; {} tokens in ({} cached), {} out",
                spent.cost, spent.prompt_tokens, spent.cached_tokens, spent.completion_tokens
            ),
        );
    }
    if let Some(adjudication) = &report.adjudication {
        line(
            &mut text,
            format!("  asked      {}", adjudication.for_people()),
        );
    }
    if !busiest.is_empty() {
        text.push_str("  busiest\n");
        let width = busiest
            .iter()
            .map(|(name, ..)| name.chars().count())
            .max()
            .unwrap_or(0);
        for (name, class, in_documents, mentions) in busiest {
            line(
                &mut text,
                format!(
                    "    {name:<width$}  {class:<12}  {mentions} mentions in {in_documents} {}",
                    if *in_documents == 1 {
                        "document"
                    } else {
                        "documents"
                    }
                ),
            );
        }
    }
    let documents = report.failures.iter().map(|failure| {
        let (document, code) = (&failure.document, failure.code);
        format!("{document}  {code}: {}", failure.message)
    });
    failed(&mut text, "not completed", documents);
    let units = report.failed_units.iter().map(|unit| {
        let (document, stage, number, code) = (&unit.document, unit.stage, unit.unit, unit.code);
        format!("{document}  {stage} {number}  {code}: {}", unit.message)
    });
    failed(&mut text, "failed units", units);
    match exported {
        Some(path) => line(&mut text, format!("  graph      {}", path.display())),
        None => line(
            &mut text,
            format!(
                "  graph      graphmill export {} --output graph.json",
                report.batch_id
            ),
        ),
    }
    line(
        &mut text,
        format!("  more       graphmill batch show {}", report.batch_id),
    );
    text.pop();
    text
}

/// The first lines of what failed, and how many more there are.
fn failed(text: &mut String, what: &str, lines: impl ExactSizeIterator<Item = String>) {
    let count = lines.len();
    if count == 0 {
        return;
    }
    line(text, format!("  {what}"));
    for one in lines.take(FAILURES) {
        line(text, format!("    {one}"));
    }
    if count > FAILURES {
        line(
            text,
            format!("    … and {} more (--json lists them)", count - FAILURES),
        );
    }
}

/// A table of batches.
pub(super) fn table(reports: &[BatchReport]) -> String {
    if reports.is_empty() {
        return "no batches yet: graphmill run PATH".to_owned();
    }
    let width = reports
        .iter()
        .map(|report| report.name.chars().count())
        .max()
        .unwrap_or(0)
        .max(4);
    let mut text = format!(
        "{:<38}  {:<width$}  {:<20}  {:>13}  {:>8}  {:>9}\n",
        "ID", "NAME", "STATE", "DOCUMENTS", "ENTITIES", "RELATIONS"
    );
    for report in reports {
        let documents = format!("{}/{}", report.documents.completed, report.documents.total);
        line(
            &mut text,
            format!(
                "{:<38}  {:<width$}  {:<20}  {documents:>13}  {:>8}  {:>9}",
                report.batch_id.to_string(),
                report.name,
                report.state,
                report.entities,
                report.relations
            ),
        );
    }
    text.pop();
    text
}

/// A batch with its executions.
pub(super) fn details(details: &BatchDetails) -> String {
    let status = &details.status;
    let mut text = report(&status.report, &[], None);
    text.push('\n');
    if let Some(reason) = &status.paused {
        let name = &status.report.name;
        line(
            &mut text,
            format!("  paused     {reason}; it goes on with: graphmill batch resume {name}"),
        );
    }
    if status.generation > 1 {
        line(
            &mut text,
            format!("  retried    {} times", status.generation - 1),
        );
    }
    if let Some(webhook) = &status.webhook {
        line(&mut text, format!("  webhook    {}", told(webhook)));
    }
    progress(&mut text, &status.progress);
    let unfinished: Vec<_> = details
        .executions
        .iter()
        .filter(|execution| execution.status != "completed" || execution.partial)
        .collect();
    if !unfinished.is_empty() {
        text.push_str("  executions that are not completed\n");
        for execution in unfinished.iter().take(50) {
            line(
                &mut text,
                format!(
                    "    {}  {:<10}  {:<18}  {}{}",
                    execution.id,
                    execution.status,
                    execution.current_activity,
                    execution.document.as_deref().unwrap_or("(resolution)"),
                    execution.paused.as_ref().map_or("", |_| "  (paused)")
                ),
            );
        }
        if unfinished.len() > 50 {
            line(
                &mut text,
                format!(
                    "    … and {} more (--json lists them)",
                    unfinished.len() - 50
                ),
            );
        }
    }
    text.pop();
    text
}

/// How the news of a batch's end stands.
fn told(webhook: &WebhookReport) -> String {
    let Some(delivery) = &webhook.delivery else {
        return format!("{} when it ends", webhook.url);
    };
    let mut said = format!("{} to {}", delivery.status.replace('_', " "), webhook.url);
    if delivery.attempts > 1 || delivery.last_error.is_some() {
        // Writing to a string does not fail.
        let _ = write!(said, ", {} attempts", delivery.attempts);
    }
    if let Some(error) = &delivery.last_error {
        let _ = write!(said, ": {error}");
    }
    if delivery.next_due.is_some() && delivery.wait_ms > 0 {
        let wait = humantime::format_duration(Duration::from_secs(delivery.wait_ms / 1000));
        let _ = write!(said, "; the next in {wait}");
    }
    said
}

/// How far a batch is: documents, stages, rate and time left.
fn progress(text: &mut String, progress: &ProgressReport) {
    let documents = progress.documents;
    let mut said = format!(
        "  progress   {}/{} documents ({:.1} %)",
        documents.current, documents.total, documents.percent
    );
    for (count, what) in [(progress.in_work, "in work"), (progress.waiting, "waiting")] {
        if count > 0 {
            // Writing to a string does not fail.
            let _ = write!(said, ", {count} {what}");
        }
    }
    for part in pace(progress) {
        let _ = write!(said, ", {part}");
    }
    line(text, said);
    text.push_str("  stages\n");
    for stage in &progress.stages {
        let (name, done) = (stage.stage, stage.done);
        let (current, total, percent) = (done.current, done.total, done.percent);
        let name = name.to_string();
        line(
            text,
            format!("    {name:<10} {current}/{total} ({percent:.1} %)"),
        );
    }
}

/// The rate and the time left, as far as they are known.
pub(super) fn pace(progress: &ProgressReport) -> Vec<String> {
    let rate = progress
        .documents_per_minute
        .map(|rate| format!("{rate:.1} documents/min"));
    let left = progress.seconds_left.map(|seconds| {
        // Nobody plans by the second what takes hours.
        let seconds = if seconds < 3600 {
            seconds
        } else {
            seconds / 60 * 60
        };
        format!(
            "{} left",
            humantime::format_duration(Duration::from_secs(seconds))
        )
    });
    rate.into_iter().chain(left).collect()
}

/// One document of `extract`.
pub(super) fn extracted(id: &str, graph: &DocumentGraph) -> String {
    let names: Vec<&str> = graph
        .entities
        .iter()
        .take(6)
        .map(|entity| entity.name.as_str())
        .collect();
    let more = if graph.entities.len() > names.len() {
        ", …"
    } else {
        ""
    };
    format!(
        "{id}: {} entities, {} relations ({}{more})",
        graph.entities.len(),
        graph.relations.len(),
        names.join(", ")
    )
}

fn line(text: &mut String, line: impl Display) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}
