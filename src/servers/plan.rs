//! What is decided before the first child is forked: binaries, folder, user; and how a server's process is made from
//! it. Knows the other files of the room; watches nothing.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::attach::{Locks, READY_WITHIN};
use super::binaries::Binaries;
use super::child::{self, RunAs};
use super::folder::{self, Folder};
use super::{Durability, Server, ServersError, Settings, identity, postgres, redis};

/// Everything that is decided before the first child.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) settings: Settings,
    pub(super) folder: Folder,
    pub(super) binaries: Binaries,
    pub(super) run_as: RunAs,
}

impl Plan {
    /// Looks for the binaries first: without them nothing is written.
    pub(super) fn new(settings: Settings) -> Result<Self, ServersError> {
        let mut binaries = Binaries::find(&settings, &settings.dir.join("pg"))?;
        folder::make(&settings.dir, 0o755)?;
        let asked =
            fs::canonicalize(&settings.dir).map_err(ServersError::folder("find", &settings.dir))?;
        let (run_as, dir) = identity::choose(asked.clone(), binaries.postgres.as_ref(), &settings)?;
        if dir != asked {
            binaries = Binaries::find(&settings, &dir.join("pg"))?;
        }
        Ok(Self {
            settings,
            folder: Folder::new(dir),
            binaries,
            run_as,
        })
    }

    /// The servers that were asked for.
    pub(super) fn servers(&self) -> impl Iterator<Item = Server> {
        Server::ALL
            .into_iter()
            .filter(|&server| self.settings.wants(server))
    }

    /// Their names, for the folder's other users.
    pub(super) fn names(&self) -> String {
        self.servers()
            .map(Server::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// A program with nothing of our environment, which holds keys and may hold `PG…` variables.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/bin:/bin")
            .current_dir("/");
        if let Some(path) = &self.settings.library_path {
            command.env("LD_LIBRARY_PATH", path);
        }
        command.stdin(Stdio::null());
        command
    }

    /// The error for a server that runs without answering.
    pub(super) fn silent(&self, server: Server) -> ServersError {
        let (log, seconds) = (self.folder.log(server), READY_WITHIN.as_secs());
        ServersError::Silent {
            server: server.as_str(),
            seconds,
            log,
        }
    }

    /// Makes what the servers need on disk.
    pub(super) fn prepare(&self, locks: &Locks) -> Result<(), ServersError> {
        self.folder.make_run(self.run_as)?;
        folder::make(&self.folder.redis(), 0o700)?;
        match &self.binaries.postgres {
            Some(binaries) => postgres::make_cluster(self, binaries, &locks.children),
            None => Ok(()),
        }
    }

    pub(super) fn spawn(&self, server: Server, locks: &Locks) -> Result<Child, ServersError> {
        let none = || ServersError::Missing {
            missing: server.as_str(),
        };
        let (mut command, run_as, on_owner_death) = match server {
            Server::Postgres => {
                let binaries = self.binaries.postgres.as_ref().ok_or_else(none)?;
                let signal = match self.settings.durability {
                    Durability::Full => Signal::INT,
                    Durability::Test => Signal::QUIT,
                };
                (postgres::server(self, binaries), self.run_as, signal)
            }
            Server::Redis => {
                let binary = self.binaries.redis.as_ref().ok_or_else(none)?;
                (redis::server(self, binary), RunAs::Same, Signal::TERM)
            }
        };
        let (stdout, stderr) = self.folder.open_log(server)?;
        command.stdout(stdout).stderr(stderr);
        child::prepare(&mut command, run_as, on_owner_death, Some(&locks.children));
        command
            .spawn()
            .map_err(ServersError::run(command.get_program()))
    }
}
