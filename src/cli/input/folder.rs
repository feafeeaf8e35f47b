//! The documents of a folder, in a stable order.
//!
//! Reads names, never texts. Everything is found once: links to folders are followed unless the folder is reached
//! anyway, so loops end. What can't be looked at is reported, not skipped.

use std::{
    collections::HashSet,
    ffi::OsStr,
    io,
    path::{Component, Path, PathBuf},
};

use walkdir::{DirEntry, WalkDir};

/// The endings of the files that are read from a folder.
pub(super) const ENDINGS: [&str; 2] = ["txt", "md"];

/// Something in a folder.
#[derive(Debug)]
pub(super) enum Found {
    /// A file to read.
    File {
        /// Its path under the folder, with `/`.
        id: String,
        /// Where to open it.
        path: PathBuf,
    },
    /// A folder or a link that can't be followed.
    Unreadable {
        /// Its path under the folder, with `/`.
        id: String,
        /// What the system says.
        reason: io::Error,
    },
}

/// A walk through a folder.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// The root without links, to see which links lead back into it.
    real_root: PathBuf,
    /// Folders outside the root that a link has led to.
    linked: HashSet<PathBuf>,
    walk: walkdir::IntoIter,
}

impl Folder {
    /// Begins a walk.
    ///
    /// # Errors
    /// The folder can't be opened.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let real_root = root.canonicalize()?;
        std::fs::read_dir(root)?;
        let walk = WalkDir::new(root)
            .follow_links(true)
            .sort_by_file_name()
            .into_iter();
        Ok(Self {
            root: root.to_owned(),
            real_root,
            linked: HashSet::new(),
            walk,
        })
    }

    /// Whether the folder that a link leads to is read under another name.
    fn is_read_elsewhere(&mut self, link: &Path) -> bool {
        let Ok(target) = link.canonicalize() else {
            return false;
        };
        match target.strip_prefix(&self.real_root) {
            Ok(inside) if !has_hidden_part(inside) => true,
            _ => !self.linked.insert(target),
        }
    }

    fn entry(&mut self, entry: &DirEntry) -> Option<Found> {
        let path = entry.path();
        if entry.file_type().is_dir() {
            let skipped = entry.depth() > 0
                && (is_hidden(entry.file_name())
                    || (entry.path_is_symlink() && self.is_read_elsewhere(path)));
            if skipped {
                self.walk.skip_current_dir();
            }
            return None;
        }
        // Pipes and devices in a folder would block the run.
        let wanted =
            entry.file_type().is_file() && !is_hidden(entry.file_name()) && has_ending(path);
        wanted.then(|| Found::File {
            id: self.id(path),
            path: path.to_owned(),
        })
    }

    fn error(&self, error: walkdir::Error) -> Option<Found> {
        if error.loop_ancestor().is_some() {
            return None;
        }
        let path = error.path().unwrap_or(&self.root).to_owned();
        let inside = path.strip_prefix(&self.root).unwrap_or(&path);
        // A dead link is a missing document only if it looks like one.
        let dead_link = path.is_symlink() && !path.exists();
        if has_hidden_part(inside) || (dead_link && !has_ending(&path)) {
            return None;
        }
        Some(Found::Unreadable {
            id: self.id(&path),
            reason: error
                .into_io_error()
                .unwrap_or_else(|| io::Error::other("can't be read")),
        })
    }

    fn id(&self, path: &Path) -> String {
        let inside = path.strip_prefix(&self.root).unwrap_or(path);
        let parts: Vec<_> = inside
            .components()
            .map(|part| part.as_os_str().to_string_lossy())
            .collect();
        parts.join("/")
    }
}

impl Iterator for Folder {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let found = match self.walk.next()? {
                Ok(entry) => self.entry(&entry),
                Err(error) => self.error(error),
            };
            if found.is_some() {
                return found;
            }
        }
    }
}

/// Whether the path ends in one of [`ENDINGS`], in any case.
fn has_ending(path: &Path) -> bool {
    path.extension().is_some_and(|ending| {
        ENDINGS
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
    })
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn has_hidden_part(path: &Path) -> bool {
    path.components()
        .any(|part| matches!(part, Component::Normal(name) if is_hidden(name)))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn ids(root: &Path) -> Vec<String> {
        Folder::open(root)
            .unwrap()
            .map(|found| match found {
                Found::File { id, .. } => id,
                Found::Unreadable { id, .. } => format!("!{id}"),
            })
            .collect()
    }

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "text").unwrap();
        }
        root
    }

    #[test]
    fn a_folder_is_read_in_order_without_hidden_and_other_files() {
        let root = tree(&[
            "b.txt",
            "a/z.md",
            "a/b/c.TXT",
            "c.csv",
            ".h.txt",
            ".git/d.txt",
            "d.jsonl",
        ]);
        assert_eq!(ids(root.path()), ["a/b/c.TXT", "a/z.md", "b.txt"]);
    }

    #[test]
    fn loops_end_and_nothing_is_found_twice() {
        let root = tree(&["a/one.txt", "b/two.txt"]);
        let path = root.path();
        symlink(path, path.join("a/up")).unwrap();
        symlink(path.join("b"), path.join("a/b")).unwrap();
        symlink(path.join("a"), path.join("b/a")).unwrap();
        symlink(path.join("self"), path.join("self")).unwrap();
        assert_eq!(ids(path), ["a/one.txt", "b/two.txt"]);
    }

    #[test]
    fn links_to_folders_outside_and_to_files_are_followed() {
        let outside = tree(&["far.txt"]);
        let root = tree(&["near.txt", ".store/deep.txt"]);
        let path = root.path();
        symlink(outside.path(), path.join("a")).unwrap();
        symlink(outside.path(), path.join("b")).unwrap();
        symlink(path.join(".store"), path.join("c")).unwrap();
        symlink(path.join("near.txt"), path.join("same.txt")).unwrap();
        assert_eq!(
            ids(path),
            ["a/far.txt", "c/deep.txt", "near.txt", "same.txt"]
        );
    }

    #[test]
    fn a_dead_link_that_looks_like_a_document_is_reported() {
        let root = tree(&["a.txt"]);
        symlink("nowhere", root.path().join("b.txt")).unwrap();
        symlink("nowhere", root.path().join("c")).unwrap();
        assert_eq!(ids(root.path()), ["a.txt", "!b.txt"]);
    }
}
