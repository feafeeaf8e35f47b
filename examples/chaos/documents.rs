//! What is extracted: the example documents, repeated and varied, and always the long one. The same on every machine.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use graphmill::pipeline::NewDocument;

/// The id of the long document, which has a megabyte.
pub(crate) const LONG: &str = "megabyte";

/// Bytes of the long document, at least.
const MEGABYTE: usize = 1 << 20;

/// The texts of `examples/documents`, by name; the longest last.
fn examples() -> Result<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/documents");
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "txt") {
            found.push((path.clone(), fs::read_to_string(&path)?));
        }
    }
    found.sort();
    found.sort_by_key(|(_, text)| text.len() > 10_000);
    Ok(found.into_iter().map(|(_, text)| text).collect())
}

/// `count` documents of one to three examples each; the first line makes each of them its own.
pub(crate) fn short(count: usize) -> Result<Vec<NewDocument>> {
    let mut examples = examples()?;
    examples.pop();
    Ok((0..count)
        .map(|number| {
            let mut text = format!("Document {number} of {count}.\n");
            for part in 0..=number % 3 {
                text.push('\n');
                text.push_str(&examples[(number + part * 7) % examples.len()]);
                text.push('\n');
            }
            NewDocument::new(format!("short-{number}"), text)
        })
        .collect())
}

/// `count` documents of some thirty kilobytes each, by the names `name-0`, `name-1` …
pub(crate) fn middling(name: &str, count: usize) -> Result<Vec<NewDocument>> {
    let longest = examples()?.pop().context("no example documents")?;
    Ok((0..count)
        .map(|number| {
            let text = format!("Document {number} of {count} for {name}.\n\n{longest}");
            NewDocument::new(format!("{name}-{number}"), text)
        })
        .collect())
}

/// The long document.
pub(crate) fn long() -> Result<NewDocument> {
    let corpus = examples()?.join("\n\n");
    let mut text = "The long document.\n\n".to_owned();
    while text.len() < MEGABYTE {
        text.push_str(&corpus);
        text.push_str("\n\n");
    }
    Ok(NewDocument::new(LONG, text))
}

/// A batch of `count` documents, the long one among them. It goes first: it takes the longest.
pub(crate) fn batch(count: usize) -> Result<Vec<NewDocument>> {
    let mut all = vec![long()?];
    all.extend(short(count.saturating_sub(1))?);
    Ok(all)
}
