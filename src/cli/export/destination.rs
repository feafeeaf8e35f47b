//! Where an export goes: a file, a folder, a pipe or a device.
//!
//! Invariants: a file or folder is there whole or not at all, as it is written beside its place and renamed; and
//! nothing is replaced that an export of the same kind could not have written.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    str::FromStr,
};

use graphmill_jobs::BatchId;

use crate::{
    cli::{error::CliError, session::Session},
    graph::{CSV_FILES, ExportFormat, ExportStyle},
    workflow,
};

/// What to write, and where.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Destination {
    pub(in crate::cli) style: ExportStyle,
    pub(in crate::cli) path: PathBuf,
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (format, path) = text
            .split_once(':')
            .filter(|(_, path)| !path.is_empty())
            .ok_or("expected FORMAT:PATH, for example json:graph.json")?;
        let format: ExportFormat = format.parse().map_err(|error| format!("{error}"))?;
        Ok(Self {
            style: format.into(),
            path: path.into(),
        })
    }
}

impl Destination {
    /// A place that can't be written to is better said before an hour's work than after it.
    pub(in crate::cli) fn check(&self) -> Result<(), CliError> {
        let tried = if self.style.format.is_folder() {
            self.begin_folder()
                .and_then(|(partial, _)| fs::remove_dir(partial))
        } else if self.is_special() {
            Ok(())
        } else if self.path.is_dir() {
            Err(io::ErrorKind::IsADirectory.into())
        } else {
            let partial = partial(&self.path);
            File::create(&partial).and_then(|_| fs::remove_file(&partial))
        };
        tried.map_err(|source| self.error(source))
    }

    /// Writes the graph of a batch.
    pub(in crate::cli) async fn write(
        &self,
        session: &Session,
        batch: BatchId,
    ) -> Result<(), CliError> {
        if self.style.format.is_folder() {
            self.to_folder(session, batch).await
        } else {
            self.to_file(session, batch).await
        }
    }

    /// To a file; straight to a pipe or a device.
    async fn to_file(&self, session: &Session, batch: BatchId) -> Result<(), CliError> {
        if self.is_special() {
            let open = |_| File::options().write(true).open(&self.path);
            return self.export(session, batch, open).await.map(drop);
        }
        let partial = partial(&self.path);
        let done = async {
            let files = self
                .export(session, batch, |_| File::create(&partial))
                .await?;
            sync(&files)
                .and_then(|()| fs::rename(&partial, &self.path))
                .map_err(|source| self.error(source))
        }
        .await;
        if done.is_err() {
            // What is half an export is of no use to anybody.
            let _ = fs::remove_file(&partial);
        }
        done
    }

    async fn to_folder(&self, session: &Session, batch: BatchId) -> Result<(), CliError> {
        let error = |source| self.error(source);
        let (partial, path) = self.begin_folder().map_err(error)?;
        let done = async {
            let open = |name: &'static str| File::create_new(partial.join(name));
            let files = self.export(session, batch, open).await?;
            sync(&files)
                .and_then(|()| replace_folder(&partial, &path))
                .map_err(error)
        }
        .await;
        if done.is_err() {
            let _ = remove_export(&partial);
        }
        done
    }

    async fn export(
        &self,
        session: &Session,
        batch: BatchId,
        mut open: impl FnMut(&'static str) -> io::Result<File>,
    ) -> Result<Vec<File>, CliError> {
        // An output that breaks says which one it was.
        let open = |name: &'static str| open(name).map(BufWriter::new);
        let (store, organization) = (&session.store, session.organization);
        let outs = workflow::export_with(store, organization, batch, &self.style, open).await?;
        outs.into_iter()
            .map(|mut out| {
                out.flush()?;
                out.into_inner().map_err(io::IntoInnerError::into_error)
            })
            .collect::<io::Result<_>>()
            .map_err(|source| self.error(source))
    }

    /// An empty folder beside the place, and the place, if a folder of tables may take it.
    fn begin_folder(&self) -> io::Result<(PathBuf, PathBuf)> {
        // Of a link, what it leads to.
        let path = if self.path.exists() {
            self.path.canonicalize()?
        } else {
            self.path.components().collect()
        };
        if path.file_name().is_none() {
            return Err(io::Error::other("give a folder of its own"));
        }
        if path.exists() && !is_export(&path)? {
            return Err(io::Error::other(
                "there is something else: give a new folder, or one that holds such an export",
            ));
        }
        let partial = partial(&path);
        // One may be left of a run that was killed.
        if partial.exists() {
            remove_export(&partial)?;
        }
        fs::create_dir(&partial)?;
        Ok((partial, path))
    }

    /// Whether something is there that must not be replaced by a file.
    fn is_special(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|there| !there.is_file() && !there.is_dir())
    }

    fn error(&self, source: io::Error) -> CliError {
        CliError::Write {
            path: self.path.display().to_string(),
            source,
        }
    }
}

fn sync(files: &[File]) -> io::Result<()> {
    files.iter().try_for_each(File::sync_all)
}

/// What a file or folder is called until it is whole.
fn partial(path: &Path) -> PathBuf {
    with(path, ".partial")
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Puts a folder into its place, or leaves there what was there.
fn replace_folder(new: &Path, path: &Path) -> io::Result<()> {
    if !path.exists() {
        return fs::rename(new, path);
    }
    let old = with(path, ".replaced");
    fs::rename(path, &old)?;
    if let Err(error) = fs::rename(new, path) {
        fs::rename(&old, path)?;
        return Err(error);
    }
    remove_export(&old)
}

/// Whether it is a folder with nothing in it but files of an export.
fn is_export(path: &Path) -> io::Result<bool> {
    if !path.is_dir() {
        return Ok(false);
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let ours = CSV_FILES.iter().any(|(name, _)| *name == entry.file_name());
        if !ours || !entry.file_type()?.is_file() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes a folder of an export; one that holds anything else stays.
fn remove_export(path: &Path) -> io::Result<()> {
    for (name, _) in CSV_FILES {
        match fs::remove_file(path.join(OsStr::new(name))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    fs::remove_dir(path)
}
