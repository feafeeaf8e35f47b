//! `graphmill evaluate`: how good an extraction is, on documents in which somebody marked what there is to find.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Write,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
};

use clap::Args;
use futures_util::StreamExt;
use serde::Deserialize;

use super::{
    direct::{Direct, DirectArgs, Task},
    error::{CliError, SOME_FAILED},
    input::{GoldLine, GoldLines, shown},
    output,
};
use crate::{
    extractors::Extractors,
    graph::{MentionScores, Predicted, RelationScores, Score, ScoreReport, Scores},
};

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
pub(super) struct EvaluateArgs {
    /// JSONL files, a document a line: {"id", "text", "ents": [[start, end, label, …], …]}, offsets in characters; also
    /// "clusters", "rels" and "drels" where they are marked.
    #[arg(required = true, value_name = "GOLD")]
    paths: Vec<PathBuf>,
    /// Score this output of `graphmill extract --json` instead of extracting now.
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Extract on the marked mentions, to score entities and relations alone.
    #[arg(long, conflicts_with = "predictions")]
    gold_mentions: bool,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    direct: DirectArgs,
}

pub(super) async fn evaluate(
    args: EvaluateArgs,
    extractors: Extractors,
) -> Result<ExitCode, CliError> {
    let gold = GoldLines::open(args.paths, args.direct.pipeline.limits(), true)?
        .collect::<Result<Vec<GoldLine>, _>>()
        .map_err(|(place, failure)| CliError::Usage(format!("{place}: {}", failure.message)))?;
    let mut score = Score::default();
    if let Some(path) = &args.predictions {
        let mut predictions = Predictions::read(path)?;
        for line in &gold {
            let predicted = predictions.take(line, path)?;
            add(&mut score, line, predicted.as_ref());
        }
    } else {
        let direct = Direct::new(&args.direct, &extractors)?;
        let tasks: Vec<_> = gold
            .iter()
            .map(|line| Ok(Task::of(line, args.gold_mentions)))
            .collect();
        let mut results = pin!(direct.extract(tasks.into_iter()));
        let mut lines = gold.iter();
        while let (Some(result), Some(line)) = (results.next().await, lines.next()) {
            match result? {
                Ok(found) => {
                    let predicted = Predicted::of(&found.graph, found.gold.as_deref());
                    add(&mut score, line, Some(&predicted));
                }
                Err(refused) => {
                    output::note(&format!("{}: {}", refused.id, refused.failure));
                    add(&mut score, line, None);
                }
            }
        }
    }
    let report = score.report();
    output::written(if args.json {
        output::json(&report)
    } else {
        output::line(tables(&report).trim_end())
    })?;
    Ok(if report.missing == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(SOME_FAILED)
    })
}

fn add(score: &mut Score, line: &GoldLine, predicted: Option<&Predicted>) {
    score.add(&line.text, &line.mentions, &line.answers, predicted);
}

/// A file of output, by id; documents with one id in their order.
struct Predictions(HashMap<String, VecDeque<Option<Predicted>>>);

#[derive(Deserialize)]
struct OutputLine {
    id: String,
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    mentions: Option<serde::de::IgnoredAny>,
}

impl Predictions {
    fn read(path: &Path) -> Result<Self, CliError> {
        let unreadable = |number: usize, reason: &dyn std::fmt::Display| {
            CliError::Usage(format!("{}:{number}: {reason}", shown(path)))
        };
        let file = File::open(path).map_err(|error| {
            CliError::Usage(format!("`{}` can't be read: {error}", shown(path)))
        })?;
        let mut found: HashMap<String, VecDeque<Option<Predicted>>> = HashMap::new();
        for (number, line) in (1..).zip(BufReader::new(file).lines()) {
            let line = line.map_err(|error| unreadable(number, &error))?;
            if line.trim().is_empty() {
                continue;
            }
            let head: OutputLine =
                serde_json::from_str(&line).map_err(|error| unreadable(number, &error))?;
            let predicted = if head.error.is_some() && head.mentions.is_none() {
                None
            } else {
                Some(serde_json::from_str(&line).map_err(|error| unreadable(number, &error))?)
            };
            found.entry(head.id).or_default().push_back(predicted);
        }
        Ok(Self(found))
    }

    fn take(&mut self, line: &GoldLine, path: &Path) -> Result<Option<Predicted>, CliError> {
        let found = self.0.get_mut(&line.id).and_then(VecDeque::pop_front);
        found.ok_or_else(|| {
            CliError::Usage(format!(
                "`{}` has no line for the document `{}`: extract the same files",
                shown(path),
                line.id
            ))
        })
    }
}

fn tables(report: &ScoreReport) -> String {
    let mut text = String::new();
    let missing = if report.missing == 0 {
        String::new()
    } else {
        format!(", {} of them without a result", report.missing)
    };
    // Writing to a string does not fail.
    let _ = writeln!(text, "{} documents{missing}\n", report.documents);
    head(&mut text, "mentions", Some("strict"), Some("partial"));
    for MentionScores {
        name,
        strict,
        partial,
    } in &report.mentions
    {
        row(&mut text, name, strict, Some(partial));
    }
    if let Some(entities) = &report.entities {
        head(&mut text, "\nentities", None, None);
        row(&mut text, "B³ (mentions)", &entities.b_cubed, None);
        row(&mut text, "pairs", &entities.pairs, None);
    }
    for (title, relations) in [
        ("\nrelations", &report.relations),
        ("\ndocument relations", &report.document_relations),
    ] {
        if let Some(first) = relations.first() {
            let both = first.partial.is_some();
            head(
                &mut text,
                title,
                both.then_some("strict"),
                both.then_some("partial"),
            );
        }
        for RelationScores {
            name,
            strict,
            partial,
        } in relations
        {
            row(&mut text, name, strict, partial.as_ref());
        }
    }
    text
}

/// The line above a table, whose columns are those of [`row`].
fn head(text: &mut String, title: &str, first: Option<&str>, second: Option<&str>) {
    let (breaks, title) = match title.strip_prefix('\n') {
        Some(title) => ("\n", title),
        None => ("", title),
    };
    let first = first.unwrap_or("");
    let _ = write!(
        text,
        "{breaks}{title:<20}{:>8}{:>8}  {first:>7} P      R     F1",
        "gold", "found"
    );
    if let Some(second) = second {
        let _ = write!(text, "  {second:>7} P      R     F1");
    }
    text.push('\n');
}

fn row(text: &mut String, name: &str, strict: &Scores, partial: Option<&Scores>) {
    let _ = write!(text, "{name:<20}{:>8}{:>8}", strict.gold, strict.predicted);
    for scores in std::iter::once(strict).chain(partial) {
        let _ = write!(
            text,
            "  {:>9.1}{:>7.1}{:>7.1}",
            scores.precision * 100.0,
            scores.recall * 100.0,
            scores.f1 * 100.0
        );
    }
    text.push('\n');
}
