//! What an export costs: rows a second and memory of each format's writer, for as many rows as you like.
//!
//! ```text
//! cargo bench --bench exports                 # 10,000,000 rows of each format
//! cargo bench --bench exports -- 1000000      # fewer
//! cargo bench --bench exports -- 1000 2000    # and twice as many: does memory grow?
//! ```
//!
//! Rows are generated, a hundred entities with two mentions each, fifty relations and fifty clusters a document, and
//! written to a buffered `/dev/null`: what is measured is the writer, not the database and not the disk. Each format
//! has a process of its own, whose peak memory (`VmHWM`) is its own too.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::{
    fs::File,
    io::{BufWriter, Write},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, anyhow};
use graphmill::graph::{
    ExportFormat, ExportHead, ExportWriter, ExportedCluster, ExportedDocument, ExportedEntity,
    ExportedEvidence, ExportedMention, ExportedRelation, Ontology,
};

/// Rows of a run, documents, entities, relations and clusters together. **Source:** what exports must stand.
const ROWS: u64 = 10_000_000;
/// Rows for each document, itself among them.
const EACH: u64 = 201;

/// Counts what goes through.
struct Counted {
    out: BufWriter<File>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    if let [format, rows] = &arguments[..]
        && let Ok(format) = format.parse()
    {
        return pump(format, rows.parse()?);
    }
    let wanted: Vec<u64> = arguments
        .iter()
        .map(|a| a.parse())
        .collect::<Result<_, _>>()?;
    let wanted = if wanted.is_empty() {
        vec![ROWS]
    } else {
        wanted
    };
    println!("format        rows      rows/s     MB/s   bytes/row   VmHWM");
    for format in ExportFormat::ALL {
        for rows in &wanted {
            let done = Command::new(std::env::current_exe()?)
                .args([format.as_str(), &rows.to_string()])
                .status()?;
            if !done.success() {
                return Err(anyhow!("{format}: {done}"));
            }
        }
    }
    Ok(())
}

fn pump(format: ExportFormat, rows: u64) -> Result<()> {
    let ontology = Ontology::builtin()?;
    let head = ExportHead {
        batch: "batch_01a1fca6770270b2bf85947cdff41ded",
        ontology: &ontology,
    };
    let begun = Instant::now();
    let mut writer = ExportWriter::new(&format.into(), head, |_| {
        let out = File::options().write(true).open("/dev/null")?;
        Ok(Counted {
            out: BufWriter::new(out),
            bytes: 0,
        })
    })?;
    let documents = rows / EACH;
    for number in 0..documents {
        writer.document(&document(number))?;
    }
    for number in 0..documents * 100 {
        writer.entity(&entity(number))?;
    }
    for number in 0..documents * 50 {
        writer.relation(&relation(number))?;
    }
    for number in 0..documents * 50 {
        writer.cluster(&ExportedCluster {
            id: id("cluster", number),
            name: name(number),
            class: class(number),
            members: vec![id("entity", number * 2), id("entity", number * 2 + 1)],
        })?;
    }
    let bytes: u64 = writer.finish()?.iter().map(|out| out.bytes).sum();
    let (seconds, rows) = (begun.elapsed().as_secs_f64(), documents * EACH);
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let (per_second, megabytes) = (rows as f64 / seconds, bytes as f64 / seconds / 1e6);
    println!(
        "{:<9} {rows:>9} {per_second:>11.0} {megabytes:>8.0} {:>11} {:>7}",
        format.as_str(),
        bytes / rows.max(1),
        peak()?
    );
    Ok(())
}

/// The peak of this process' memory, as Linux says it.
fn peak() -> Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.context("no VmHWM")?.trim().to_owned())
}

fn id(kind: &str, number: u64) -> String {
    format!("{kind}_{number:032x}")
}

fn name(number: u64) -> String {
    format!("Person \"{number}\" O'Connor-Müller")
}

fn class(number: u64) -> String {
    ["person", "organization", "location", "date"][(number % 4) as usize].to_owned()
}

fn document(number: u64) -> ExportedDocument {
    ExportedDocument {
        id: format!("folder/document-{number}.txt"),
        document_id: id("doc", number),
        state: "completed".to_owned(),
        partial: false,
        text_sha256: Some("ab".repeat(32)),
    }
}

fn entity(number: u64) -> ExportedEntity {
    let mention = |start: u32| ExportedMention {
        start,
        end: start + 20,
        text: name(number),
        class: class(number),
        value: None,
        confidence: 0.87,
    };
    ExportedEntity {
        id: id("entity", number),
        document: format!("folder/document-{}.txt", number / 100),
        document_id: id("doc", number / 100),
        name: name(number),
        class: class(number),
        mentions: vec![mention(17), mention(1234)],
    }
}

fn relation(number: u64) -> ExportedRelation {
    ExportedRelation {
        id: id("rel", number),
        document: format!("folder/document-{}.txt", number / 50),
        document_id: id("doc", number / 50),
        subject: id("entity", number * 2),
        subject_name: name(number * 2),
        predicate: ["works_for", "born_in", "lives_in"][(number % 3) as usize].to_owned(),
        object: id("entity", number * 2 + 1),
        object_name: name(number * 2 + 1),
        confidence: 0.64,
        evidence: vec![ExportedEvidence {
            start: 17,
            end: 90,
            text: "He was born in Philadelphia on 3 December 1924 and grew up in Wilmington"
                .to_owned(),
        }],
    }
}
