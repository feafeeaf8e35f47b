//! The folder of the private servers: what lies where, its locks, and the URLs that follow from it. Knows paths and
//! files; starts nothing.
//!
//! `owner` is locked by the one process that supervises, and by no child: it is free the moment that process is
//! gone. `lock` is inherited by every child: it is free only when the last of them is gone. `line` is shared by those
//! that wait for the owner's end.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Pid;

use super::child::RunAs;
use super::{Server, ServersError, identity};

/// Longest path of a socket file that every system takes, with room for Postgres' `.lock`.
/// **Source:** `sun_path` is 108 bytes on Linux and 104 on macOS.
const LONGEST_SOCKET_PATH: usize = 100;

/// The name that Postgres gives to its socket.
pub(super) const POSTGRES_SOCKET: &str = ".s.PGSQL.5432";

/// The lines of a log that an error shows.
const TAIL_LINES: usize = 8;

/// The paths of one folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    /// Absolute and free of links.
    pub(super) dir: PathBuf,
    /// Where the sockets are: `<dir>/run`, or a short path below `/tmp`.
    pub(super) run: PathBuf,
}

impl Folder {
    /// Works out the paths; makes nothing.
    pub(super) fn new(dir: PathBuf) -> Self {
        let mut run = dir.join("run");
        let longest = run.join(POSTGRES_SOCKET).as_os_str().len() + ".lock".len();
        if longest > LONGEST_SOCKET_PATH {
            // Not the environment's TMPDIR: two processes on one folder must agree on the URLs.
            let hash = hash(dir.as_os_str().as_encoded_bytes());
            let user = rustix::process::geteuid().as_raw();
            run = PathBuf::from(format!("/tmp/graphmill-{user}-{hash:016x}"));
        }
        Self { dir, run }
    }

    /// The Postgres cluster.
    pub(super) fn pg(&self) -> PathBuf {
        self.dir.join("pg")
    }

    /// Redis' append-only files.
    pub(super) fn redis(&self) -> PathBuf {
        self.dir.join("redis")
    }

    /// A server's socket.
    pub(super) fn socket(&self, server: Server) -> PathBuf {
        self.run.join(match server {
            Server::Postgres => POSTGRES_SOCKET,
            Server::Redis => "redis.sock",
        })
    }

    /// Where to reach Postgres.
    pub(super) fn database_url(&self) -> String {
        format!(
            "postgres://graphmill@localhost/graphmill?host={}",
            percent_encode(&self.run)
        )
    }

    /// Where to reach Redis.
    pub(super) fn redis_url(&self) -> String {
        format!(
            "redis+unix://{}",
            percent_encode(&self.socket(Server::Redis))
        )
    }

    /// Makes the folder for the sockets, for nobody but whom the servers run as: Postgres trusts whoever connects.
    pub(super) fn make_run(&self, run_as: RunAs) -> Result<(), ServersError> {
        make(&self.run, 0o700)?;
        let meta =
            fs::symlink_metadata(&self.run).map_err(ServersError::folder("read", &self.run))?;
        let user = match run_as {
            RunAs::User { uid, .. } => uid,
            RunAs::Same | RunAs::Looking { .. } => rustix::process::geteuid().as_raw(),
        };
        let own = [user, rustix::process::geteuid().as_raw()];
        // Inside a folder that we could make it in, it may be left from a run as another user.
        let is_ours = own.contains(&meta.uid()) || self.run.starts_with(&self.dir);
        if !meta.is_dir() || !is_ours {
            return Err(ServersError::ForeignRunFolder(self.run.clone()));
        }
        make_private(&self.run)?;
        identity::give(&self.run, run_as)
    }

    /// Tries to become the owner.
    pub(super) fn try_own(&self, servers: &str) -> Result<Option<File>, ServersError> {
        let path = self.dir.join("owner");
        let Some(mut file) = try_lock(&path)? else {
            return Ok(None);
        };
        let told = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{} {servers}", std::process::id()));
        told.map_err(ServersError::folder("write", &path))?;
        Ok(Some(file))
    }

    /// Says that somebody waits for the owner's end, for as long as the file is open.
    pub(super) fn wait_in_line(&self) -> Result<File, ServersError> {
        let path = self.dir.join("line");
        let file = open(&path)?;
        file.lock_shared()
            .map_err(ServersError::folder("lock", &path))?;
        Ok(file)
    }

    /// Whether somebody waits for the owner's end.
    pub(super) fn has_line(&self) -> Result<bool, ServersError> {
        Ok(try_lock(&self.dir.join("line"))?.is_none())
    }

    /// What the owner says of itself: its process id and its servers.
    pub(super) fn owner(&self) -> Option<(String, String)> {
        let text = fs::read_to_string(self.dir.join("owner")).ok()?;
        let (pid, servers) = text.split_once(' ')?;
        Some((pid.to_owned(), servers.to_owned()))
    }

    /// Tries to take the lock that the children inherit.
    pub(super) fn try_lock(&self) -> Result<Option<File>, ServersError> {
        try_lock(&self.dir.join("lock"))
    }

    /// The processes that hold the children's lock, as far as this user may see; none where there is no `/proc`.
    pub(super) fn holders(&self) -> Vec<Pid> {
        let Ok(lock) = fs::metadata(self.dir.join("lock")) else {
            return Vec::new();
        };
        let is_lock = |file: fs::Metadata| (file.dev(), file.ino()) == (lock.dev(), lock.ino());
        // Whoever only reads the folder, as a backup does, has the file open without holding its lock.
        let holds = |process: &Path, fd: &OsStr| {
            fs::metadata(process.join("fd").join(fd)).is_ok_and(is_lock)
                && fs::read_to_string(process.join("fdinfo").join(fd))
                    .is_ok_and(|info| info.contains("FLOCK"))
        };
        let mut holders = Vec::new();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = process.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let process = process.path();
            let fds = fs::read_dir(process.join("fd"));
            let mut fds = fds.into_iter().flatten().flatten();
            if fds.any(|fd| holds(&process, &fd.file_name())) {
                holders.extend(Pid::from_raw(pid));
            }
        }
        holders
    }

    /// The file that a server's output is appended to.
    pub(super) fn log(&self, server: Server) -> PathBuf {
        self.dir.join(server.as_str()).with_extension("log")
    }

    /// A server's log, opened for its output.
    pub(super) fn open_log(&self, server: Server) -> Result<(Stdio, Stdio), ServersError> {
        let path = self.log(server);
        let open = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path);
        let pair = open.and_then(|log| Ok((log.try_clone()?.into(), log.into())));
        pair.map_err(ServersError::folder("write", &path))
    }

    /// The last lines of a server's log.
    pub(super) fn log_tail(&self, server: Server) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(self.log(server)) {
            let length = file.metadata().map_or(0, |meta| meta.len());
            let _ = file.seek(std::io::SeekFrom::Start(length.saturating_sub(8_192)));
            let mut bytes = Vec::new();
            let _ = file.read_to_end(&mut bytes);
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
        last_lines(&text)
    }
}

/// The last lines of a text.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Makes a folder and its parents; one that exists stays as it is.
pub(super) fn make(path: &Path, mode: u32) -> Result<(), ServersError> {
    let created = DirBuilder::new().recursive(true).mode(mode).create(path);
    created.map_err(ServersError::folder("make", path))
}

/// Makes a folder private to its owner.
pub(super) fn make_private(path: &Path) -> Result<(), ServersError> {
    let set = fs::set_permissions(path, Permissions::from_mode(0o700));
    set.map_err(ServersError::folder("set the permissions of", path))
}

/// FNV-1a, because a path must give the same name in every build.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn open(path: &Path) -> Result<File, ServersError> {
    let mut options = OpenOptions::new();
    options
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600);
    options
        .open(path)
        .map_err(ServersError::folder("open", path))
}

fn try_lock(path: &Path) -> Result<Option<File>, ServersError> {
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(ServersError::folder("lock", path)(error)),
    }
}

/// A path as part of a URL.
fn percent_encode(path: &Path) -> String {
    let mut text = String::new();
    for &byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_follow_from_the_folder() {
        let folder = Folder::new("/srv/my data/ü?".into());
        assert_eq!(
            folder.database_url(),
            "postgres://graphmill@localhost/graphmill?host=/srv/my%20data/%C3%BC%3F/run"
        );
        assert_eq!(
            folder.redis_url(),
            "redis+unix:///srv/my%20data/%C3%BC%3F/run/redis.sock"
        );
    }

    #[test]
    fn long_folders_have_short_sockets() {
        let folder = Folder::new(Path::new("/srv").join("x".repeat(90)));
        assert!(folder.run.starts_with("/tmp"), "{}", folder.run.display());
        let again = Folder::new(Path::new("/srv").join("x".repeat(90)));
        assert_eq!(folder.run, again.run);
        let other = Folder::new(Path::new("/srv").join("y".repeat(90)));
        assert_ne!(folder.run, other.run);
    }
}
