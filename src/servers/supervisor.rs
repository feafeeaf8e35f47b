//! The thread that forks, watches and stops the servers, and takes them over from an owner that is gone. Knows the
//! order of things; leaves the processes to `crew`, and who may supervise to `attach`.
//!
//! Invariant: every child is forked by this one thread, which lives until they are gone, because a child's death
//! signal follows the thread and not the process.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::attach::{self, Joined};
use super::crew::{Crew, FIRST_BACKOFF, LONGEST_BACKOFF};
use super::plan::Plan;
use super::{Server, ServersError};

/// What the supervising thread tells the others.
#[derive(Debug, Default)]
pub(super) struct Shared {
    owner: AtomicBool,
    postgres: AtomicU32,
    redis: AtomicU32,
}

impl Shared {
    pub(super) fn owner(&self) -> bool {
        self.owner.load(Ordering::Acquire)
    }

    pub(super) fn pid(&self, server: Server) -> Option<u32> {
        Some(self.cell(server).load(Ordering::Acquire)).filter(|&pid| pid != 0)
    }

    pub(super) fn set_pid(&self, server: Server, pid: Option<u32>) {
        self.cell(server).store(pid.unwrap_or(0), Ordering::Release);
    }

    fn cell(&self, server: Server) -> &AtomicU32 {
        match server {
            Server::Postgres => &self.postgres,
            Server::Redis => &self.redis,
        }
    }
}

/// The handle on the thread. Dropping it stops the servers.
#[derive(Debug)]
pub(super) struct Supervisor {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Starts the thread, and waits until its servers answer.
    pub(super) fn start(plan: Plan, shared: Arc<Shared>) -> Result<Self, ServersError> {
        let (stop, stopped) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("servers".into())
            .spawn(move || supervise(&plan, &shared, &stopped, &ready))
            .map_err(ServersError::Thread)?;
        let supervisor = Self {
            stop: Some(stop),
            thread: Some(thread),
        };
        is_ready.recv().unwrap_or(Err(ServersError::Stopped))?;
        Ok(supervisor)
    }

    /// Stops the servers and waits for their end.
    pub(super) fn stop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread's life.
fn supervise(
    plan: &Plan,
    shared: &Shared,
    stop: &Receiver<()>,
    ready: &Sender<Result<(), ServersError>>,
) {
    let joined = attach::join(plan, stop);
    let booted = match joined {
        Ok(Joined::Owner(locks)) => {
            shared.owner.store(true, Ordering::Release);
            let mut crew = Crew::new(plan, shared, locks);
            crew.boot(stop).map(|()| Ok(crew))
        }
        Ok(Joined::Attached(place)) => Ok(Err(place)),
        Err(error) => Err(error),
    };
    let crew = match booted {
        Ok(crew) => {
            let _ = ready.send(Ok(()));
            crew.map_or_else(|place| take_over(plan, shared, stop, place), Some)
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            None
        }
    };
    if let Some(mut crew) = crew {
        crew.watch(stop);
    }
}

/// Waits for the owner's end and takes its place; `None` when told to stop first.
fn take_over<'a>(
    plan: &'a Plan,
    shared: &'a Shared,
    stop: &Receiver<()>,
    _place: File,
) -> Option<Crew<'a>> {
    let mut backoff = FIRST_BACKOFF;
    loop {
        let prepared = attach::follow(plan, stop).and_then(|locks| {
            plan.prepare(&locks)
                .map(|()| Crew::new(plan, shared, locks))
        });
        match prepared {
            Ok(crew) => {
                tracing::info!("the owner of the private servers is gone: taking them over");
                shared.owner.store(true, Ordering::Release);
                return Some(crew);
            }
            Err(ServersError::Stopped) => return None,
            Err(error) => {
                tracing::error!(%error, "can't take over the private servers; trying again");
                attach::pause(stop, backoff).ok()?;
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
            }
        }
    }
}
