//! Postgres: how a cluster is made, how the server is run, and when it is ready. Knows Postgres' options and files;
//! supervises nothing.
//!
//! A cluster is made aside and renamed into place, with its database in it: killed at any moment, the folder holds
//! either no cluster or a whole one.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;

use super::binaries::PostgresBinaries;
use super::child;
use super::folder::{self, Folder, POSTGRES_SOCKET};
use super::plan::Plan;
use super::{Durability, Server, ServersError, identity};

/// Locales to try: the first knows upper and lower case beyond ASCII, the second exists everywhere.
const LOCALES: [&str; 2] = ["C.UTF-8", "C"];

/// Makes the database and says so, since single-user mode exits with 0 after an error.
const CREATE: &str = "create database graphmill;\n\
    select 'database ' || datname || ' is there' from pg_database where datname = 'graphmill';\n";

/// What the second line of [`CREATE`] answers.
const CREATED: &str = "database graphmill is there";

/// Makes the cluster if there is none.
pub(super) fn make_cluster(
    plan: &Plan,
    binaries: &PostgresBinaries,
    lock: &File,
) -> Result<(), ServersError> {
    let (pg, new) = (plan.folder.pg(), plan.folder.dir.join("pg.new"));
    if pg.join("PG_VERSION").exists() {
        return identity::give(&pg, plan.run_as);
    }
    let initdb = LOCALES
        .into_iter()
        .map(|locale| init(plan, binaries, &new, locale, lock));
    let mut first_error = None;
    for attempt in initdb {
        match attempt {
            Ok(()) => {
                create_database(plan, binaries, &new, lock)?;
                return put_in_place(plan, &new, &pg);
            }
            Err(error) => _ = first_error.get_or_insert(error),
        }
    }
    first_error.map_or(Ok(()), Err)
}

fn init(
    plan: &Plan,
    binaries: &PostgresBinaries,
    new: &Path,
    locale: &str,
    lock: &File,
) -> Result<(), ServersError> {
    if new.exists() {
        fs::remove_dir_all(new).map_err(ServersError::folder("remove", new))?;
    }
    folder::make(new, 0o700)?;
    identity::give(new, plan.run_as)?;
    let mut command = plan.command(&binaries.initdb);
    command
        .arg("-D")
        .arg(new)
        .args(["-U", "graphmill", "-A", "trust", "-E", "UTF8"]);
    command.arg(format!("--locale={locale}"));
    command.args(["--no-instructions", "--data-checksums", "--no-sync"]);
    let output = run(plan, command, "", lock)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed("initdb", &output))
    }
}

/// Makes the database without a server and without a client.
fn create_database(
    plan: &Plan,
    binaries: &PostgresBinaries,
    new: &Path,
    lock: &File,
) -> Result<(), ServersError> {
    let mut command = plan.command(&binaries.postgres);
    command
        .arg("--single")
        .arg("-D")
        .arg(new)
        .args(["-c", "fsync=off", "postgres"]);
    let output = run(plan, command, CREATE, lock)?;
    let made = String::from_utf8_lossy(&output.stdout).contains(CREATED);
    if output.status.success() && made {
        Ok(())
    } else {
        Err(failed("create database", &output))
    }
}

/// Runs a program of Postgres to its end.
fn run(
    plan: &Plan,
    mut command: Command,
    input: &str,
    lock: &File,
) -> Result<Output, ServersError> {
    child::prepare(&mut command, plan.run_as, Signal::KILL, Some(lock));
    let program = PathBuf::from(command.get_program());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut finish = || {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that doesn't read has an answer for us.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    };
    finish().map_err(ServersError::run(program))
}

fn failed(step: &'static str, output: &Output) -> ServersError {
    let output = folder::last_lines(String::from_utf8_lossy(&output.stderr).trim());
    ServersError::Init { step, output }
}

/// One `syncfs` instead of initdb's thousand `fsync`s, which take seconds on a busy disk.
fn put_in_place(plan: &Plan, new: &Path, pg: &Path) -> Result<(), ServersError> {
    let durable = plan.settings.durability == Durability::Full;
    if durable {
        sync_tree(new).map_err(ServersError::folder("sync", new))?;
    }
    fs::rename(new, pg).map_err(ServersError::folder("rename", new))?;
    if durable {
        let dir = &plan.folder.dir;
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(ServersError::folder("sync", dir))?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn sync_tree(path: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_tree(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_tree(&path)?
        } else {
            File::open(&path)?.sync_all()?
        }
    }
    File::open(path)?.sync_all()
}

/// The server: `postgres` itself and not `pg_ctl`, which would leave us without a child.
pub(super) fn server(plan: &Plan, binaries: &PostgresBinaries) -> Command {
    clear_stale_locks(&plan.folder);
    let mut command = plan.command(&binaries.postgres);
    command
        .arg("-D")
        .arg(plan.folder.pg())
        .arg("-k")
        .arg(&plan.folder.run);
    let mut set = |setting: &str| _ = command.args(["-c", setting]);
    // No TCP, and a socket in a folder of ours: so `trust` trusts us alone.
    set("listen_addresses=");
    set("port=5432");
    set("unix_socket_permissions=0700");
    set(&format!(
        "max_connections={}",
        plan.settings.max_connections
    ));
    set("shared_buffers=64MB");
    set("max_wal_size=512MB");
    // Nobody replicates a private server.
    set("wal_level=minimal");
    set("max_wal_senders=0");
    set("jit=off");
    set("log_min_messages=warning");
    set("cluster_name=graphmill");
    if cfg!(target_os = "linux") && binaries.major >= 14 {
        // After a crash: 0.2 s instead of an fsync of every file.
        set("recovery_init_sync_method=syncfs");
    }
    match plan.settings.durability {
        Durability::Full => {}
        Durability::Test => {
            // synchronous_commit stays on: without it even a killed process loses acknowledged writes.
            set("fsync=off");
            set("full_page_writes=off");
            set("autovacuum=off");
            set("checkpoint_timeout=1h");
            // So that a killed server leaves nothing in /dev/shm.
            set("dynamic_shared_memory_type=mmap");
        }
    }
    command
}

/// Whether the server accepts connections; `pid` is that of our child, so that a dead server's file doesn't count.
pub(super) fn is_ready(folder: &Folder, pid: Option<u32>) -> bool {
    let Ok(text) = fs::read_to_string(folder.pg().join("postmaster.pid")) else {
        return false;
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let ours = pid.is_none_or(|pid| lines.first() == Some(&pid.to_string().as_str()));
    ours && lines.get(7) == Some(&"ready")
        && UnixStream::connect(folder.socket(Server::Postgres)).is_ok()
}

/// Removes the lock files of a dead server whose pid another process has now (or a zombie, for ever): Postgres would
/// only ask whether there is such a process. Nothing of ours runs in the folder, because we hold its lock. The files
/// of a pid that is gone stay: Postgres then also looks for leftover backends before it removes them.
fn clear_stale_locks(folder: &Folder) {
    let pg = folder.pg();
    let socket_lock = folder.run.join(POSTGRES_SOCKET.to_owned() + ".lock");
    for path in [pg.join("postmaster.pid"), socket_lock] {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let Some(pid) = text
            .lines()
            .next()
            .and_then(|line| line.trim().parse::<u32>().ok())
        else {
            continue;
        };
        let process = Path::new("/proc").join(pid.to_string());
        let ours = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == pg);
        if process.exists() && !ours {
            tracing::info!(pid, file = %path.display(), "removing the lock file of a dead Postgres");
            let _ = fs::remove_file(&path);
        }
    }
}
