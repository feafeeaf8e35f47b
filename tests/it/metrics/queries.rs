//! The queries of the dashboard and of the alerts, read as far as to know which metrics and labels they ask for.

use std::collections::{BTreeMap, BTreeSet};

use graphmill::metrics::{self, Kind};
use serde_json::Value;

use super::file;

/// Words of the language that look like names.
const WORDS: [&str; 12] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "and",
    "or",
    "unless",
    "offset",
    "bool",
    "inf",
];
/// Labels that Prometheus adds.
const ADDED: [&str; 3] = ["le", "instance", "job"];

/// What a query asks for: metrics, and labels.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    metrics: BTreeSet<String>,
    labels: BTreeSet<String>,
}

/// Reads a query: what is a name, and neither a function, nor a word, nor in a list of labels, is a metric.
fn asked(query: &str) -> Asked {
    let mut asked = Asked::default();
    let mut rest = query;
    let (mut in_braces, mut in_list, mut list_next) = (false, false, false);
    while let Some(character) = rest.chars().next() {
        let name = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"_:$".contains(c));
        let (word, after) = rest.split_at(name.unwrap_or(rest.len()));
        if word.is_empty() {
            match character {
                '{' => in_braces = true,
                '}' => in_braces = false,
                '(' => in_list = std::mem::take(&mut list_next),
                ')' => in_list = false,
                '"' => {
                    let end = rest[1..].find('"').expect("a closing quote");
                    rest = &rest[end + 1..];
                }
                '[' => {
                    let end = rest.find(']').expect("a closing bracket");
                    rest = &rest[end..];
                }
                _ => {}
            }
            rest = &rest[character.len_utf8()..];
            continue;
        }
        rest = after;
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        if in_braces || in_list {
            asked.labels.insert(word.to_owned());
        } else if [
            "by",
            "without",
            "on",
            "ignoring",
            "group_left",
            "group_right",
        ]
        .contains(&word)
        {
            list_next = true;
        } else if !WORDS.contains(&word)
            && !after.trim_start().starts_with('(')
            && !is_aggregation(word)
        {
            asked.metrics.insert(word.to_owned());
        }
    }
    asked
}

/// These may stand before `by (...)` instead of their argument.
fn is_aggregation(word: &str) -> bool {
    ["sum", "max", "min", "avg", "count", "topk"].contains(&word)
}

#[test]
fn names_are_found_in_queries() {
    let query = r#"histogram_quantile(0.99, sum by (le, stage) (rate(a_seconds_bucket{job="x", b!~"by|c"}[5m])))
        > 2 * max(d_e) and on (stage) f_total offset 5m unless absent(g)"#;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let wanted = Asked {
        metrics: names(&["a_seconds_bucket", "d_e", "f_total", "g"]),
        labels: names(&["le", "stage", "job", "b"]),
    };
    assert_eq!(asked(query), wanted);
}

/// Every `expr` below a value.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str().filter(|_| name == "expr") {
                    Some(query) => found.push(query.to_owned()),
                    None => expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The queries of the dashboard and of the alerts.
pub(super) fn queries() -> Vec<String> {
    let mut found = Vec::new();
    let dashboard: Value = serde_json::from_str(&file("observability/grafana.json")).unwrap();
    expressions(&dashboard, &mut found);
    let of_the_dashboard = found.len();
    let alerts: Value = serde_norway::from_str(&file("observability/alerts.yml")).unwrap();
    expressions(&alerts, &mut found);
    assert!(of_the_dashboard > 30, "only {of_the_dashboard}");
    assert!(found.len() - of_the_dashboard >= 10, "{found:#?}");
    found
}

/// Every metric that they ask for.
pub(super) fn metrics_asked_for() -> BTreeSet<String> {
    queries().iter().flat_map(|it| asked(it).metrics).collect()
}

/// The names that a scrape has of each metric that is described, with its labels.
pub(super) fn described() -> BTreeMap<String, Vec<&'static str>> {
    let mut names = BTreeMap::new();
    for metric in metrics::get().described() {
        let suffixes: &[&str] = match metric.kind {
            Kind::Histogram => &["_bucket", "_sum", "_count"],
            Kind::Counter | Kind::Gauge | Kind::Info => &[""],
        };
        for suffix in suffixes {
            names.insert(format!("{}{suffix}", metric.name), metric.labels.clone());
        }
    }
    names
}

#[test]
fn queries_ask_for_labels_that_their_metrics_have() {
    let described = described();
    for query in queries() {
        let asked = asked(&query);
        assert!(!asked.metrics.is_empty(), "{query}");
        let mut there: BTreeSet<&str> = ADDED.into();
        for metric in &asked.metrics {
            if metric == "up" {
                // Prometheus' own.
                continue;
            }
            let labels = described
                .get(metric)
                .unwrap_or_else(|| panic!("`{metric}` is nothing that is counted: {query}"));
            there.extend(labels);
        }
        for label in &asked.labels {
            assert!(there.contains(label.as_str()), "`{label}`: {query}");
        }
    }
}

/// Gauges of the fleet are the same on every replica: whoever adds them counts them several times.
#[test]
fn what_every_replica_says_is_never_added() {
    let of_the_fleet: BTreeSet<&str> = metrics::get()
        .described()
        .iter()
        .filter(|metric| metric.of_the_fleet)
        .map(|metric| metric.name.as_str())
        .collect();
    assert!(of_the_fleet.contains("graphmill_queue_documents"));
    for query in queries() {
        for metric in asked(&query).metrics {
            if of_the_fleet.contains(metric.as_str()) {
                for (place, _) in query.match_indices(&metric) {
                    let over = aggregation(&query[..place]);
                    assert!(["max", "min"].contains(&over), "`{over}`: {query}");
                }
            }
        }
    }
}

/// What is done over the series whose name comes next: `max` of `… max by (state) (`.
fn aggregation(before: &str) -> &str {
    let mut before = before.trim_end().trim_end_matches('(').trim_end();
    if let Some((list, by)) = before
        .strip_suffix(')')
        .and_then(|list| list.rsplit_once('('))
    {
        assert!(!by.contains(')'));
        before = list.trim_end().trim_end_matches("by").trim_end();
    }
    let word = before.rfind(|c: char| !c.is_ascii_alphabetic());
    &before[word.map_or(0, |place| place + 1)..]
}

#[test]
fn an_aggregation_is_found() {
    assert_eq!(aggregation("1 + max("), "max");
    assert_eq!(aggregation("max by (a, b) ("), "max");
    assert_eq!(aggregation("max(x) and sum by (a) ("), "sum");
    assert_eq!(aggregation("sum("), "sum");
}

/// Names after Prometheus' conventions: the program first, the unit or `_total` last.
#[test]
fn names_follow_the_conventions() {
    for metric in metrics::get().described() {
        let name = &metric.name;
        let ours = name.starts_with("graphmill_");
        assert!(ours || name.starts_with("process_"), "{name}");
        let counts = metric.kind == Kind::Counter;
        assert_eq!(counts, name.ends_with("_total"), "{name}");
        if metric.kind == Kind::Histogram {
            assert!(name.ends_with("_seconds"), "{name}");
        }
        for unit in ["_ms", "_milliseconds", "_minutes", "_kb", "_percent"] {
            assert!(!name.contains(unit), "{name}");
        }
    }
}
