//! `graphmill ontology`: checking a file before a batch is opened with it; and reading one for the commands that take
//! `--ontology`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::{Args, Subcommand};

use super::{error::CliError, output};
use crate::graph::{Flaw, Ontology, OntologyError, OntologyFormat};

/// Bytes of a file, at most. **Source:** the largest ontologies in wide use in one file have some ten megabytes.
const LIMIT: u64 = 64 << 20;

/// Arguments of `ontology`.
#[derive(Debug, Args)]
pub(super) struct OntologyArgs {
    #[command(subcommand)]
    command: OntologyCommand,
}

#[derive(Debug, Subcommand)]
enum OntologyCommand {
    /// Check a .toml, .ttl, .owl or .rdf file.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Print an ontology as TOML; the built-in one without FILE.
    Show {
        /// The file.
        file: Option<PathBuf>,
    },
}

pub(super) fn ontology(args: &OntologyArgs) -> Result<ExitCode, CliError> {
    match &args.command {
        OntologyCommand::Check { file } => {
            let ontology = chosen(Some(file))?;
            output::written(output::line(&format!(
                "{}: `{}` version {}, {} classes and {} relation types",
                file.display(),
                ontology.name,
                ontology.version,
                ontology.classes.len(),
                ontology.relations.len()
            )))?;
        }
        OntologyCommand::Show { file } => {
            let ontology = chosen(file.as_deref())?;
            output::written(output::line(
                ontology.to_toml().unwrap_or_default().trim_end(),
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The ontology in `file`, or the built-in one. What of it was left out is said on stderr.
pub(super) fn chosen(file: Option<&Path>) -> Result<Arc<Ontology>, CliError> {
    let Some(path) = file else {
        return Ok(Arc::new(Ontology::builtin().map_err(CliError::Ontology)?));
    };
    let refused = |why: String| CliError::Usage(format!("{}: {why}", path.display()));
    let text = text_of(path).map_err(refused)?;
    let format = format_of(path, &text).map_err(refused)?;
    let told = |flaws: Vec<Flaw>| {
        let lines: Vec<String> = flaws.iter().map(|flaw| at(path, flaw)).collect();
        lines.join("\n")
    };
    match Ontology::read(&text, format) {
        Ok((ontology, left_out)) => {
            if !left_out.is_empty() {
                output::note(&told(left_out));
            }
            Ok(Arc::new(ontology))
        }
        Err(OntologyError { flaws }) if flaws.len() > 1 => {
            let count = flaws.len();
            output::note(&told(flaws));
            Err(refused(format!(
                "{count} things are wrong with this ontology: see above"
            )))
        }
        Err(error) => Err(CliError::Usage(told(error.flaws))),
    }
}

/// The place as editors and compilers write it.
fn at(path: &Path, flaw: &Flaw) -> String {
    let path = path.display();
    match flaw.place {
        Some((line, 0)) => format!("{path}:{line}: {}", flaw.message),
        Some((line, column)) => format!("{path}:{line}:{column}: {}", flaw.message),
        None => format!("{path}: {}", flaw.message),
    }
}

fn text_of(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("the ontology can't be read: {error}");
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > LIMIT {
        return Err(format!("the ontology has {size} bytes, more than {LIMIT}"));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|&byte| byte == b'\n').count();
        format!("line {line} is not UTF-8: save the file as UTF-8")
    })?;
    // Some editors begin a file with a mark of its encoding.
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or_else(|| text.clone(), str::to_owned))
}

fn format_of(path: &Path, text: &str) -> Result<OntologyFormat, String> {
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    match ending.as_deref() {
        Some("toml") => Ok(OntologyFormat::Toml),
        Some("ttl") => Ok(OntologyFormat::Turtle),
        // Both syntaxes go by these names; XML begins with a tag, Turtle never with these.
        Some("owl" | "rdf" | "xml") => {
            let start = text.trim_start();
            let is_xml = ["<?xml", "<rdf:", "<!--", "<!DOCTYPE"]
                .iter()
                .any(|tag| start.starts_with(tag));
            Ok(if is_xml {
                OntologyFormat::RdfXml
            } else {
                OntologyFormat::Turtle
            })
        }
        _ => Err("an ontology is a .toml, .ttl, .owl or .rdf file".to_owned()),
    }
}
