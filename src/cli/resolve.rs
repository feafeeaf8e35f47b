//! `graphmill resolve`: which names of many documents are of one thing, in memory. The same code that resolves a batch.
//!
//! Holds the names packed, never the file. A file with a broken line is refused as a whole: a clustering without some of
//! its names would look complete.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{error::CliError, input::shown, output};
use crate::{
    graph::{ClassId, Decisions, PairScores, Resolution, ResolvableEntity, Resolver},
    pipeline::line_reason,
};

/// The longest line, in bytes: a name with its context is far shorter.
const LONGEST: u64 = 1024 * 1024;
/// Broken lines that are told before the file is given up.
const TOLD: usize = 10;

/// Arguments of `resolve`.
#[derive(Debug, Args)]
pub(super) struct ResolveArgs {
    /// JSON Lines, a name each: {"id", "document", "name", "type"?, "context"?}. `-` is stdin.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print {"id", "cluster"} for each line, in the order of the lines.
    #[arg(long)]
    json: bool,
    /// Score the clusters against the field "gold" of each line, by pairs of names.
    #[arg(long)]
    gold: bool,
    /// Print {"left", "right", "score", "reason"} for each merge and each link that is only proposed, instead of
    /// clusters.
    #[arg(long, conflicts_with = "json")]
    links: bool,
}

/// A line's fields; what else it has is ignored.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    document: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    class: Option<&'a RawValue>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(borrow, default)]
    gold: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a RawValue,
    cluster: &'a str,
}

#[derive(Serialize)]
struct Link<'a> {
    merged: bool,
    left: &'a RawValue,
    right: &'a RawValue,
    score: f32,
    reason: &'a str,
}

/// The ids as they are written, one after another.
#[derive(Default)]
struct Ids {
    text: String,
    ends: Vec<usize>,
}

impl Ids {
    fn push(&mut self, id: &RawValue) {
        self.text.push_str(id.get());
        self.ends.push(self.text.len());
    }

    fn get(&self, line: u32) -> Result<&RawValue, serde_json::Error> {
        let line = line as usize;
        let start = line.checked_sub(1).map_or(0, |before| self.ends[before]);
        serde_json::from_str(&self.text[start..self.ends[line]])
    }

    fn len(&self) -> usize {
        self.ends.len()
    }
}

/// What the lines hold besides their names.
struct Names {
    ids: Ids,
    documents: HashMap<String, u32>,
    gold: HashMap<String, u32>,
    gold_of: Vec<u32>,
}

pub(super) fn resolve(args: &ResolveArgs) -> Result<ExitCode, CliError> {
    let from: Box<dyn Read> = if args.file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let unreadable = |error| {
            CliError::Usage(format!(
                "`{}` can't be read: {error}: name a JSON Lines file, or `-` for stdin",
                shown(&args.file)
            ))
        };
        Box::new(File::open(&args.file).map_err(unreadable)?)
    };
    let decisions = Decisions::default();
    let mut resolver = Resolver::new(&decisions);
    let read = read(args, BufReader::with_capacity(1 << 18, from), &mut resolver)?;
    let resolution = resolver.resolve();
    output::written(if args.links {
        links(&read.ids, &resolution)
    } else if args.json {
        lines(&read.ids, &resolution)
    } else {
        output::line(summary(&read, &resolution).trim_end())
    })?;
    if args.gold {
        score(&read, &resolution);
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads all lines, or says which are broken.
fn read(
    args: &ResolveArgs,
    mut from: impl BufRead,
    resolver: &mut Resolver<'_, u32>,
) -> Result<Names, CliError> {
    let mut read = Names {
        ids: Ids::default(),
        documents: HashMap::new(),
        gold: HashMap::new(),
        gold_of: Vec::new(),
    };
    let mut broken = 0_usize;
    let mut line: Vec<u8> = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let taken = from.by_ref().take(LONGEST + 1).read_until(b'\n', &mut line);
        let taken = taken.map_err(|error| {
            CliError::Usage(format!(
                "{}:{number}: the file can't be read on: {error}",
                shown(&args.file)
            ))
        })?;
        if taken == 0 {
            break;
        }
        let done = if taken as u64 > LONGEST && line.last() != Some(&b'\n') {
            skip(&mut from).map_err(|error| {
                CliError::Usage(format!("{}:{number}: {error}", shown(&args.file)))
            })?;
            Err(format!(
                "it is longer than {LONGEST} bytes: shorten its context"
            ))
        } else {
            let text = line
                .strip_prefix(b"\xEF\xBB\xBF".as_slice())
                .unwrap_or(&line);
            take(
                if number == 1 { text } else { &line },
                args.gold,
                &mut read,
                resolver,
            )
        };
        if let Err(why) = done {
            broken += 1;
            if broken <= TOLD {
                output::note(&format!("{}:{number}: {why}", shown(&args.file)));
            }
        }
    }
    match broken {
        0 => Ok(read),
        count => Err(CliError::Usage(format!(
            "{count} of the lines of `{}` can't be read, so nothing was resolved: mend or remove them",
            shown(&args.file)
        ))),
    }
}

/// Reads over the rest of a line.
fn skip(from: &mut impl BufRead) -> io::Result<()> {
    loop {
        let part = from.fill_buf()?;
        let end = part.iter().position(|&byte| byte == b'\n');
        let (used, done) = (
            end.map_or(part.len(), |end| end + 1),
            end.is_some() || part.is_empty(),
        );
        from.consume(used);
        if done {
            return Ok(());
        }
    }
}

/// Takes in one line, or says why not and what to do.
fn take(
    line: &[u8],
    gold: bool,
    read: &mut Names,
    resolver: &mut Resolver<'_, u32>,
) -> Result<(), String> {
    const SHAPE: &str =
        r#"write {"id": …, "document": …, "name": …} with "type" and "context" if you have them"#;
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    let text = std::str::from_utf8(line).map_err(|error| {
        format!(
            "it is not UTF-8 from byte {}: convert the file",
            error.valid_up_to()
        )
    })?;
    if !text.trim_start().starts_with('{') {
        return Err(format!("it is not a JSON object: {SHAPE}"));
    }
    let line: Line<'_> =
        serde_json::from_str(text).map_err(|error| format!("{}: {SHAPE}", line_reason(&error)))?;
    let id = line
        .id
        .filter(|id| is_id(id))
        .ok_or_else(|| format!("it has no `id` that is a string or a number: {SHAPE}"))?;
    let document = line
        .document
        .and_then(key)
        .ok_or_else(|| format!("it has no `document` that is a string or a number: {SHAPE}"))?;
    let name = optional(line.name, "name")?.filter(|name| !name.trim().is_empty());
    let name = name.ok_or_else(|| format!("it has no `name`: {SHAPE}"))?;
    let class = optional(line.class, "type")?.filter(|class| !class.trim().is_empty());
    let context = optional(line.context, "context")?;
    if gold {
        let gold = line.gold.and_then(key).ok_or(
            "it has no `gold` that is a string or a number: say which thing it is, or leave out --gold",
        )?;
        let next = dense(read.gold.len());
        read.gold_of.push(*read.gold.entry(gold).or_insert(next));
    }
    let next = dense(read.documents.len());
    let document = *read.documents.entry(document).or_insert(next);
    resolver.add(ResolvableEntity {
        id: dense(read.ids.len()),
        document,
        name,
        aliases: Vec::new(),
        value: None,
        class: class.map(ClassId::new),
        label: None,
        context,
    });
    read.ids.push(id);
    Ok(())
}

fn dense(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn is_id(value: &RawValue) -> bool {
    let first = value.get().as_bytes().first();
    first.is_some_and(|byte| matches!(byte, b'"' | b'-' | b'0'..=b'9'))
}

/// A string's text, or a number as it is written.
fn key(value: &RawValue) -> Option<String> {
    if value.get().starts_with('"') {
        serde_json::from_str(value.get()).ok()
    } else {
        is_id(value).then(|| value.get().to_owned())
    }
}

/// A string, if there is one; `null` is none.
fn optional(value: Option<&RawValue>, field: &str) -> Result<Option<String>, String> {
    match value {
        None => Ok(None),
        Some(value) if value.get() == "null" => Ok(None),
        Some(value) => serde_json::from_str(value.get())
            .map(Some)
            .map_err(|_| format!("`{field}` is not a string: write it as one, or leave it out")),
    }
}

/// Each line's cluster.
fn of_lines(count: usize, resolution: &Resolution<u32>) -> Vec<u32> {
    let mut cluster_of = vec![0_u32; count];
    for (number, cluster) in (1..).zip(&resolution.clusters) {
        for &member in &cluster.members {
            cluster_of[member as usize] = number;
        }
    }
    cluster_of
}

fn lines(ids: &Ids, resolution: &Resolution<u32>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 18, io::stdout().lock());
    let mut cluster = String::new();
    for (line, number) in (0..).zip(of_lines(ids.len(), resolution)) {
        cluster.clear();
        let _ = write!(cluster, "c{number}");
        let id = ids.get(line)?;
        serde_json::to_writer(
            &mut out,
            &Answer {
                id,
                cluster: &cluster,
            },
        )?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

fn links(ids: &Ids, resolution: &Resolution<u32>) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let merges = resolution
        .merges
        .iter()
        .map(|merge| (true, merge.left, merge.right, merge.score, merge.reason));
    let proposals = resolution
        .proposals
        .iter()
        .map(|link| (false, link.left, link.right, link.score, link.reason));
    for (merged, left, right, score, reason) in merges.chain(proposals) {
        let link = Link {
            merged,
            left: ids.get(left)?,
            right: ids.get(right)?,
            score,
            reason: reason.as_str(),
        };
        serde_json::to_writer(&mut out, &link)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

fn summary(read: &Names, resolution: &Resolution<u32>) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{} names of {} documents are {} things; {} more links are proposed\n",
        read.ids.len(),
        read.documents.len(),
        resolution.clusters.len(),
        resolution.proposals.len()
    );
    let mut reasons: HashMap<&str, (usize, usize)> = HashMap::new();
    for merge in &resolution.merges {
        reasons.entry(merge.reason.as_str()).or_default().0 += 1;
    }
    for proposal in &resolution.proposals {
        reasons.entry(proposal.reason.as_str()).or_default().1 += 1;
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_unstable();
    let _ = writeln!(text, "{:<12}{:>10}{:>10}", "reason", "merged", "proposed");
    for (reason, (merged, proposed)) in reasons {
        let _ = writeln!(text, "{reason:<12}{merged:>10}{proposed:>10}");
    }
    let mut biggest: Vec<_> = resolution.clusters.iter().collect();
    biggest.sort_by_key(|cluster| std::cmp::Reverse(cluster.members.len()));
    let _ = writeln!(text, "\nthe biggest");
    for cluster in biggest.iter().take(10) {
        let class = cluster.class.as_ref().map_or("", ClassId::as_str);
        let _ = writeln!(
            text,
            "{:>10}  {} {class}",
            cluster.members.len(),
            cluster.name
        );
    }
    text
}

fn score(read: &Names, resolution: &Resolution<u32>) {
    let found = of_lines(read.ids.len(), resolution);
    let scores = PairScores::of(&read.gold_of, &found);
    output::note(&format!(
        "pairs: precision {:.4}, recall {:.4}, F1 {:.4}",
        scores.precision, scores.recall, scores.f1
    ));
}
