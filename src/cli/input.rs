//! The documents that a command's PATHs name.
//!
//! - A folder is read recursively, sorted by name: `.txt` and `.md` in any case, nothing hidden. An id is the path
//!   under the folder, with `/`.
//! - `.jsonl` and `.ndjson` are read by lines, one document each; inside a folder they are left alone.
//! - Any other file is one document whatever its ending (a `.json` too), and its name is its id. So is a pipe.
//!
//! Invariants: one document is held at a time; the order is that of the PATHs; every input has an id of its own,
//! and what can't be read is an input too, refused by name. Of two inputs with one id the first keeps it, and the
//! second is named `id (its place)`.
//!
//! Knows nothing of batches. That two documents hold the same text is for the batch to see.

mod folder;
mod gold;
mod lines;
mod names;

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use folder::{Folder, Found};
pub(crate) use gold::{GoldLine, GoldLines};
use lines::{Line, Lines};
use names::{Names, Origin, printable};

use crate::{
    flow::{Failure, FailureCode},
    pipeline::{Limits, NewDocument, check_bytes, check_id},
};

/// What stands at one place of the input.
#[derive(Debug)]
pub(crate) enum Input {
    /// A document.
    Document(NewDocument),
    /// Something that should have been one.
    Refused {
        /// Its id, or the place (`file:line`) where there is none.
        id: String,
        /// Why.
        failure: Failure,
    },
}

/// PATHs that can't be what was meant (exit code 2). Trying the same again does not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    /// There is no PATH.
    #[error("no PATH is given: name a folder, a file or a .jsonl file")]
    NoPath,
    /// Nothing is there.
    #[error("`{}` does not exist: check the spelling, and the folder that it is relative to", shown(.0))]
    Missing(PathBuf),
    /// It can't be opened.
    #[error("`{}` can't be read: check its permissions", shown(.path))]
    Unreadable {
        /// What was asked for.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A folder without anything to read.
    #[error(
        "the folder `{}` holds no documents: of a folder the .txt and .md files are read; name any other file, \
         for example a .jsonl, itself",
        shown(.0)
    )]
    NoDocuments(PathBuf),
}

/// Reads what `paths` name, lazily. Each PATH is looked at first, so that a wrong one costs nothing.
///
/// # Errors
/// [`InputError`]; what is wrong with a single document is an [`Input::Refused`] instead.
pub(crate) fn read(
    paths: &[PathBuf],
    limits: Limits,
) -> Result<impl Iterator<Item = Input> + Send + use<>, InputError> {
    if paths.is_empty() {
        return Err(InputError::NoPath);
    }
    for path in paths {
        check_path(path)?;
    }
    Ok(Inputs {
        paths: paths.to_vec(),
        opened: 0,
        open: None,
        names: Names::default(),
        limits,
    })
}

fn check_path(path: &Path) -> Result<(), InputError> {
    let unreadable = |source: io::Error| InputError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            InputError::Missing(path.to_owned())
        } else {
            unreadable(error)
        }
    })?;
    if metadata.is_dir() && Folder::open(path).map_err(unreadable)?.next().is_none() {
        return Err(InputError::NoDocuments(path.to_owned()));
    }
    Ok(())
}

/// A PATH that is being read.
enum Open {
    /// A file that is one document, or a PATH that can't be opened any more.
    Once(Option<Candidate>),
    Folder(Folder),
    Lines {
        lines: Lines<BufReader<File>>,
        any: bool,
    },
}

/// An input before it is known whether its id is free.
struct Candidate {
    /// Where it is, for people.
    place: String,
    /// Its line; 0 for a file.
    line: u64,
    content: Result<NewDocument, Unfit>,
}

/// Something that is no document, with its id if it has one.
struct Unfit {
    id: Option<String>,
    failure: Failure,
}

struct Inputs {
    paths: Vec<PathBuf>,
    /// How many of them have been opened; the last of these is the open one.
    opened: usize,
    open: Option<Open>,
    names: Names,
    limits: Limits,
}

impl Iterator for Inputs {
    type Item = Input;

    fn next(&mut self) -> Option<Input> {
        loop {
            let path = if self.open.is_some() {
                self.paths.get(self.opened.checked_sub(1)?)?
            } else {
                let path = self.paths.get(self.opened)?;
                self.opened += 1;
                self.open = Some(Open::path(path, self.limits));
                path
            };
            let candidate = self
                .open
                .as_mut()
                .and_then(|open| open.advance(path, self.limits));
            match candidate {
                Some(candidate) => return Some(self.settle(candidate)),
                None => self.open = None,
            }
        }
    }
}

impl Open {
    fn path(path: &Path, limits: Limits) -> Self {
        let opened = if path.is_dir() {
            Folder::open(path).map(Self::Folder)
        } else if is_lines(path) {
            File::open(path).map(|file| Self::Lines {
                lines: Lines::new(BufReader::with_capacity(64 * 1024, file), limits),
                any: false,
            })
        } else {
            let name = path.file_name().unwrap_or(path.as_os_str());
            let id = name.to_string_lossy().into_owned();
            Ok(Self::Once(Some(Candidate::file(id, path, limits))))
        };
        opened.unwrap_or_else(|error| {
            Self::Once(Some(Candidate::unfit(path, None, unreadable(&error))))
        })
    }

    fn advance(&mut self, path: &Path, limits: Limits) -> Option<Candidate> {
        match self {
            Self::Once(candidate) => candidate.take(),
            Self::Folder(folder) => Some(match folder.next()? {
                Found::File { id, path } => Candidate::file(id, &path, limits),
                Found::Unreadable { id, reason } => {
                    Candidate::unfit(&path.join(&id), Some(id), unreadable(&reason))
                }
            }),
            Self::Lines { lines, any } => match lines.next_line() {
                Some(line) => {
                    *any = true;
                    Some(Candidate::line(path, line))
                }
                None if *any => None,
                None => {
                    *any = true;
                    let failure = Failure::terminal(
                        FailureCode::Empty,
                        "the file holds no documents: one JSON object a line is wanted",
                    );
                    Some(Candidate::unfit(path, None, failure))
                }
            },
        }
    }
}

impl Candidate {
    /// A file that is one document.
    fn file(id: String, path: &Path, limits: Limits) -> Self {
        if let Err(invalid) = check_id(&id) {
            let failure = Failure::terminal(
                FailureCode::Unreadable,
                format!("the path of a file is its id, but {invalid}: rename it"),
            );
            return Self::unfit(path, None, failure);
        }
        match read_file(path, limits) {
            Ok(text) => Self {
                place: shown(path),
                line: 0,
                content: Ok(NewDocument {
                    source_uri: Some(shown(path)),
                    ..NewDocument::new(id, text)
                }),
            },
            Err(failure) => Self::unfit(path, Some(id), failure),
        }
    }

    fn line(path: &Path, line: Line) -> Self {
        let Line {
            number,
            id,
            content,
        } = line;
        let path = shown(path);
        let content = match content {
            Ok(document) => Ok(NewDocument {
                source_uri: Some(format!("{path}#L{number}")),
                ..document
            }),
            Err(mut failure) => {
                failure.message = format!("{path}, line {number}: {}", failure.message);
                Err(Unfit { id, failure })
            }
        };
        Self {
            place: format!("{path}:{number}"),
            line: number,
            content,
        }
    }

    fn unfit(path: &Path, id: Option<String>, failure: Failure) -> Self {
        Self {
            place: shown(path),
            line: 0,
            content: Err(Unfit {
                id: id.filter(|id| check_id(id).is_ok()),
                failure,
            }),
        }
    }
}

impl Inputs {
    /// Gives the candidate its id, if that is free.
    fn settle(&mut self, candidate: Candidate) -> Input {
        let Candidate {
            place,
            line,
            content,
        } = candidate;
        let origin = Origin::new(self.opened.saturating_sub(1), line);
        let (wanted, failure) = match content {
            Ok(document) => match self.names.take(&document.id, origin) {
                Ok(()) => return Input::Document(document),
                Err(first) => {
                    let first = self.place(&document.id, first);
                    let failure = duplicate(&document.id, &first, &place);
                    (format!("{} ({place})", document.id), failure)
                }
            },
            Err(Unfit { id: None, failure }) => (place, failure),
            Err(Unfit {
                id: Some(id),
                failure,
            }) => match self.names.take(&id, origin) {
                Ok(()) => return Input::Refused { id, failure },
                // What is wrong with it matters more than that its name is taken as well.
                Err(_) => (format!("{id} ({place})"), failure),
            },
        };
        Input::Refused {
            id: self.names.take_for_refused(&wanted, origin),
            failure,
        }
    }

    /// Where the input with that id stands, for people.
    fn place(&self, id: &str, origin: Origin) -> String {
        let Some(path) = self.paths.get(origin.path as usize) else {
            return printable(id);
        };
        match origin.line {
            0 if path.is_dir() => shown(&path.join(id)),
            0 => shown(path),
            line => format!("{}:{line}", shown(path)),
        }
    }
}

/// Reads one document, and never more of it than the limit allows.
fn read_file(path: &Path, limits: Limits) -> Result<String, Failure> {
    let read = || -> io::Result<Result<Vec<u8>, Failure>> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        if let Err(too_large) = limits.check_size(size) {
            return Ok(Err(too_large));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        // One byte more than is allowed tells that a pipe or a growing file has too many.
        file.take(limits.document_bytes.saturating_add(1))
            .read_to_end(&mut bytes)?;
        Ok(Ok(bytes))
    };
    let bytes = read().map_err(|error| unreadable(&error))??;
    check_bytes(bytes, &limits)
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::terminal(
        FailureCode::Unreadable,
        format!("it can't be read: {error}"),
    )
}

fn duplicate(id: &str, first: &str, second: &str) -> Failure {
    let mut failure = Failure::terminal(
        FailureCode::DuplicateId,
        format!(
            "the id `{id}` of {second} is already that of {first}: give one of them another id, or submit them \
             in two batches"
        ),
    );
    failure.details = serde_json::json!({ "id": id, "first": first, "second": second });
    failure
}

/// Whether the file is read by lines.
fn is_lines(path: &Path) -> bool {
    path.extension().is_some_and(|ending| {
        ending.eq_ignore_ascii_case("jsonl") || ending.eq_ignore_ascii_case("ndjson")
    })
}

/// The path as people may see it.
pub(crate) fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

#[cfg(test)]
mod tests;
