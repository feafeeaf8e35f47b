//! A JSON Lines file whose documents carry mentions, clusters and relations that somebody marked.
//!
//! A line is `{"id", "text", "ents": [[start, end, label, …], …]}`, offsets in characters; to be scored it may also
//! have `clusters` (lists of indices into `ents`), `rels` (`[head, tail, type]` between `ents`) and `drels` (the same
//! between clusters). Everything else is ignored. Messages name the place and never quote the text.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use super::{InputError, lines::Lines, shown, unreadable};
use crate::{
    flow::{Failure, FailureCode},
    graph::{GoldAnswers, GoldKind, GoldMention, GoldRelation, Span, Text},
    pipeline::{Limits, NewDocument, broken_line as broken, parse_line},
};

/// A document with its marks.
#[derive(Debug)]
pub(crate) struct GoldLine {
    /// Its id.
    pub(crate) id: String,
    /// Its text.
    pub(crate) text: Text,
    /// The marked mentions, in the line's order.
    pub(crate) mentions: Vec<GoldMention>,
    /// What else was marked; empty unless it was asked for.
    pub(crate) answers: GoldAnswers,
}

/// The lines of gold files, in order; an error has its place (`file:line`).
pub(crate) struct GoldLines {
    paths: std::vec::IntoIter<PathBuf>,
    open: Option<(PathBuf, Lines<BufReader<File>>)>,
    limits: Limits,
    answers: bool,
}

impl GoldLines {
    /// Reads `paths`. With `answers` what is marked besides mentions is read as well; without it, it is never
    /// looked at.
    ///
    /// # Errors
    /// [`InputError`] for a PATH that is no file.
    pub(crate) fn open(
        paths: Vec<PathBuf>,
        limits: Limits,
        answers: bool,
    ) -> Result<Self, InputError> {
        for path in &paths {
            super::check_path(path)?;
        }
        Ok(Self {
            paths: paths.into_iter(),
            open: None,
            limits,
            answers,
        })
    }
}

impl Iterator for GoldLines {
    type Item = Result<GoldLine, (String, Failure)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((path, lines)) = &mut self.open
                && let Some((number, read)) = lines.advance()
            {
                let read = read.and_then(|()| parse(lines.line(), self.limits, self.answers));
                let place = || format!("{}:{number}", shown(path));
                return Some(read.map_err(|failure| (place(), failure)));
            }
            let path = self.paths.next()?;
            match open(&path) {
                Ok(file) => {
                    let from = BufReader::with_capacity(64 * 1024, file);
                    self.open = Some((path, Lines::new(from, self.limits)));
                }
                Err(error) => {
                    self.open = None;
                    return Some(Err((shown(&path), unreadable(&error))));
                }
            }
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(std::io::Error::other("a folder; name its .jsonl files"));
    }
    Ok(file)
}

#[derive(Deserialize)]
struct Marks {
    #[serde(default)]
    ents: Value,
    #[serde(default)]
    clusters: Value,
    #[serde(default)]
    rels: Value,
    #[serde(default)]
    drels: Value,
}

fn parse(line: &[u8], limits: Limits, answers: bool) -> Result<GoldLine, Failure> {
    let (id, document) = parse_line(line, limits);
    let document = match (id, document) {
        // Corpora have blank texts. There is nothing to find in them, and nothing to refuse when it is only counted.
        (Some(id), Err(failure)) if answers && failure.code == FailureCode::Empty => {
            NewDocument::new(id, String::new())
        }
        (_, document) => document?,
    };
    let marks: Marks = serde_json::from_slice(line).map_err(|error| broken(&error.to_string()))?;
    let text = Text::new(document.text);
    let ents = match &marks.ents {
        Value::Array(ents) => ents,
        Value::Null => return Err(broken("it has no `ents`")),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            return Err(broken("`ents` is not an array"));
        }
    };
    let mentions = ents
        .iter()
        .enumerate()
        .map(|(index, ent)| {
            mention(ent, &text).map_err(|reason| broken(&format!("`ents[{index}]` {reason}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let answers = if answers {
        marks.answers(mentions.len())?
    } else {
        GoldAnswers::default()
    };
    Ok(GoldLine {
        id: document.id,
        text,
        mentions,
        answers,
    })
}

fn mention(ent: &Value, text: &Text) -> Result<GoldMention, String> {
    let number = |at: usize| {
        ent.get(at)
            .and_then(Value::as_u64)
            .and_then(|number| u32::try_from(number).ok())
    };
    let (Some(start), Some(end), Some(label)) =
        (number(0), number(1), ent.get(2).and_then(Value::as_str))
    else {
        return Err("is not [start, end, label, …]".to_owned());
    };
    let span = Span::new(start, end);
    if span.is_empty() || end > text.chars() {
        return Err(format!(
            "is {start}..{end}, but the text has {} characters",
            text.chars()
        ));
    }
    if text.slice(span).trim().is_empty() {
        return Err(format!("is {start}..{end}, where the text is blank"));
    }
    let kind = GoldKind::of(label).ok_or_else(|| {
        let label: String = label.chars().take(40).collect();
        format!("has the label `{label}`: use PER, ORG, LOC, MISC, TIME or NUM")
    })?;
    Ok(GoldMention { span, kind })
}

impl Marks {
    fn answers(&self, ents: usize) -> Result<GoldAnswers, Failure> {
        let clusters = match &self.clusters {
            Value::Null => None,
            clusters @ (Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_)) => Some(clusters_of(clusters, ents).ok_or_else(|| {
                broken(
                    "`clusters` is not a list of lists of indices into `ents`, each at most once",
                )
            })?),
        };
        let of_clusters = clusters.as_ref().map_or(0, Vec::len);
        Ok(GoldAnswers {
            rels: relations("rels", &self.rels, ents)?,
            drels: relations("drels", &self.drels, of_clusters)?,
            clusters,
        })
    }
}

fn clusters_of(value: &Value, ents: usize) -> Option<Vec<Vec<usize>>> {
    let mut seen = vec![false; ents];
    let mut clusters = Vec::new();
    for cluster in value.as_array()? {
        let mut members = Vec::new();
        for member in cluster.as_array()? {
            let member = usize::try_from(member.as_u64()?).ok()?;
            if std::mem::replace(seen.get_mut(member)?, true) {
                return None;
            }
            members.push(member);
        }
        clusters.push(members);
    }
    Some(clusters)
}

/// The `[head, tail, type]` of `field`, whose ends are below `count`.
fn relations(
    field: &str,
    value: &Value,
    count: usize,
) -> Result<Option<Vec<GoldRelation>>, Failure> {
    if value.is_null() {
        return Ok(None);
    }
    let relation = |one: &Value| {
        let end = |at: usize| {
            let index = usize::try_from(one.get(at)?.as_u64()?).ok()?;
            (index < count).then_some(index)
        };
        Some(GoldRelation {
            head: end(0)?,
            tail: end(1)?,
            name: one.get(2)?.as_str()?.to_owned(),
        })
    };
    let list = value
        .as_array()
        .ok_or_else(|| broken(&format!("`{field}` is not an array")))?;
    let read = list.iter().enumerate().map(|(index, one)| {
        relation(one).ok_or_else(|| {
            broken(&format!(
                "`{field}[{index}]` is not [head, tail, type] with ends below {count}"
            ))
        })
    });
    read.collect::<Result<Vec<_>, _>>().map(Some)
}
