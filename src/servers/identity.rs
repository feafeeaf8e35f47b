//! Decides whom Postgres runs as, and with that which folder can hold its data. Knows users and permissions; starts
//! nothing but `postgres -V`, as a probe.
//!
//! Postgres refuses root. In this order, the first that works: another user, if it may enter the folder; root in a
//! user namespace that looks like another user (a root-only home folder works, but containers often forbid it);
//! another user, with the data below `/var/lib/graphmill`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::binaries::PostgresBinaries;
use super::child::{self, RunAs};
use super::{ServersError, Settings, folder};

/// Where the data go if neither way leads into the folder that was asked for.
const FALLBACK: &str = "/var/lib/graphmill";

/// Users to run Postgres as instead of root: Debian's package makes the first, every system has the second.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// Whom Postgres runs as, and the folder for everything.
pub(super) fn choose(
    dir: PathBuf,
    postgres: Option<&PostgresBinaries>,
    settings: &Settings,
) -> Result<(RunAs, PathBuf), ServersError> {
    let Some(postgres) = postgres.filter(|_| rustix::process::geteuid().is_root()) else {
        return Ok((RunAs::Same, dir));
    };
    let probe = |run_as| can_run(postgres, run_as, settings);
    let users: Vec<(u32, u32)> = USERS.into_iter().filter_map(user).collect();
    let as_users = users.iter().map(|&(uid, gid)| RunAs::User { uid, gid });
    let looking = users.iter().map(|&(uid, gid)| RunAs::Looking { uid, gid });
    let another = as_users.clone().find(|&run_as| probe(run_as));
    if let Some(another) = another.filter(|_| anyone_may_enter(&dir)) {
        return Ok((another, dir));
    }
    if let Some(looking) = looking.into_iter().find(|&run_as| probe(run_as)) {
        return Ok((looking, dir));
    }
    let another = another.ok_or(ServersError::NoIdentity)?;
    let path = dir.as_os_str().as_encoded_bytes();
    let fallback = Path::new(FALLBACK).join(format!("{:016x}", folder::hash(path)));
    tracing::warn!(
        asked = %dir.display(), used = %fallback.display(),
        "Postgres does not run as root and its user can't enter the folder: using another one"
    );
    folder::make(&fallback, 0o755)?;
    Ok((another, fallback))
}

/// Gives a folder and all in it to whom Postgres runs as, if it isn't theirs yet.
pub(super) fn give(path: &Path, run_as: RunAs) -> Result<(), ServersError> {
    let (uid, gid) = match run_as {
        RunAs::Same => return Ok(()),
        RunAs::User { uid, gid } => (uid, gid),
        RunAs::Looking { .. } => (0, 0),
    };
    let owner = fs::symlink_metadata(path)
        .map_err(ServersError::folder("read", path))?
        .uid();
    if owner == uid {
        Ok(())
    } else {
        give_tree(path, uid, gid)
    }
}

/// The top goes last: whoever finds it given away knows that the rest is.
fn give_tree(path: &Path, uid: u32, gid: u32) -> Result<(), ServersError> {
    let meta = fs::symlink_metadata(path).map_err(ServersError::folder("read", path))?;
    if meta.is_dir() {
        let entries = fs::read_dir(path).map_err(ServersError::folder("read", path))?;
        for entry in entries {
            let entry = entry.map_err(ServersError::folder("read", path))?;
            give_tree(&entry.path(), uid, gid)?;
        }
    }
    lchown(path, Some(uid), Some(gid)).map_err(ServersError::folder("change the owner of", path))
}

/// A user's ids from `/etc/passwd`; initdb wants a user with an entry.
fn user(name: &str) -> Option<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

fn anyone_may_enter(dir: &Path) -> bool {
    dir.ancestors()
        .all(|folder| fs::metadata(folder).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0))
}

/// Whether the binary itself can be run that way: user namespaces may be forbidden, and a privately unpacked binary
/// out of another user's reach.
fn can_run(postgres: &PostgresBinaries, run_as: RunAs, settings: &Settings) -> bool {
    let mut command = Command::new(&postgres.postgres);
    command.arg("-V").current_dir("/").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(path) = &settings.library_path {
        command.env("LD_LIBRARY_PATH", path);
    }
    child::prepare(&mut command, run_as, Signal::KILL, None);
    command.status().is_ok_and(|status| status.success())
}
