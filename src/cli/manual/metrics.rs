//! `docs/METRICS.md`: what each metric is, from the book that they are all entered in.

use std::fmt::Write as _;

use crate::metrics::{self, Described, Kind};

const HEAD: &str = "# Metrics

`graphmill serve --metrics 127.0.0.1:9464` and `graphmill worker --metrics 127.0.0.1:9465` (`GRAPHMILL_METRICS`) answer
Prometheus at `/metrics`, on a listener of its own; without the flag there is none. It asks nobody for a key, so give it a
loopback address, or one that only Prometheus reaches. This page is made of the code: `graphmill docs metrics >
docs/METRICS.md` writes it anew, and a test compares.

```yaml
# prometheus.yml
rule_files: [alerts.yml] # observability/alerts.yml
scrape_configs:
  - job_name: graphmill
    static_configs: [{ targets: [\"127.0.0.1:9464\", \"127.0.0.1:9465\"] }]
```

`observability/grafana.json` is a dashboard: import it, and choose the data source.

- **What a process has done** is counted in memory from its start on: add over replicas (`sum(rate(...))`). What a process
  counted between its last scrape and its death is lost with it; the tables have it.
- **What concerns the fleet** is read from Postgres and Redis with the scrape, by every replica alike: take `max()`, never
  `sum()`. A process asks once in 5 s at most and waits 2 s at most. If a server does not answer,
  `graphmill_up{server=\"...\"}` is 0, what only it knows is left out, and the rest is told as always.
- **Labels** are words of the code, but for `model`: the first 32 names that a process calls are told apart; further ones,
  and names over 80 characters, are `other`. No label is an id or the name of an organization, a batch or a worker.
- What a scrape costs does not grow with what is stored: it counts what is open and what is in work, never what waits.

The form is OpenMetrics 1.0. Histograms have `_bucket`, `_sum` and `_count`. Durations are in seconds, sizes in bytes.
";

/// The page, as it is in the repository.
pub(super) fn page() -> String {
    let mut page = String::from(HEAD);
    let mut chapter = "";
    for metric in metrics::get().described() {
        if metric.chapter != chapter {
            chapter = metric.chapter;
            let note = if metric.of_the_fleet {
                "\nThe same on every replica: `max()`.\n"
            } else {
                ""
            };
            // Writing to a string does not fail.
            let _ = write!(
                page,
                "\n## {chapter}\n{note}\n| metric | type | labels | unit | meaning |\n| --- | --- | --- | --- | --- |\n"
            );
        }
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |",
            metric.name,
            metric.kind.as_str(),
            labels.join(", "),
            unit(metric),
            metric.meaning.replace('|', "\\|")
        );
    }
    page
}

/// The unit, which its name ends in.
fn unit(metric: &Described) -> &'static str {
    let name = metric.name.trim_end_matches("_total");
    match name.rsplit('_').next() {
        Some("seconds") => "seconds",
        Some("bytes") => "bytes",
        Some("dollars") => "dollars",
        _ if metric.kind == Kind::Info => "",
        _ => "count",
    }
}
