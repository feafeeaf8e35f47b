//! Who supervises a folder: this process, or another one that it attaches to until that one is gone. Knows the locks;
//! starts nothing.

use std::fs::File;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::plan::Plan;
use super::{Server, ServersError, postgres, redis};

/// How long an owner's servers may take to answer.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a dead owner's servers may take to end by themselves: Postgres may have a checkpoint to write.
const LEFTOVERS_END_WITHIN: Duration = Duration::from_secs(10);

/// How long they may take to be gone, after being killed too.
const LEFTOVERS_WITHIN: Duration = Duration::from_secs(30);

/// How often they are killed: one that was just starting may have started another.
const KILL: Duration = Duration::from_millis(500);

/// After this long an owner has said which servers it runs.
const OWNER_SPEAKS_WITHIN: Duration = Duration::from_secs(1);

/// How often a starting process looks again.
const LOOK: Duration = Duration::from_millis(10);

/// How often an attached process looks whether the owner is gone.
const FOLLOW: Duration = Duration::from_millis(50);

/// How long those that wait for the owner's end go first: with a newcomer that is gone in a moment as the next owner, all
/// would have to wait for another one at once.
const LINE: Duration = Duration::from_millis(800);

/// Both locks of a folder. Dropped, the folder is free as soon as the last child is gone.
#[derive(Debug)]
pub(super) struct Locks {
    /// What the children inherit.
    pub(super) children: File,
    _owner: File,
}

/// The part of this process in the folder.
pub(super) enum Joined {
    /// It supervises.
    Owner(Locks),
    /// Another living process does, and its servers answer; with this process' place among those that wait for its end.
    Attached(File),
}

/// Becomes the owner, or waits until the owner's servers answer.
pub(super) fn join(plan: &Plan, stop: &Receiver<()>) -> Result<Joined, ServersError> {
    let begin = Instant::now();
    loop {
        let is_our_turn = begin.elapsed() > LINE || !plan.folder.has_line()?;
        if is_our_turn && let Some(owner) = plan.folder.try_own(&plan.names())? {
            return own(plan, owner, stop).map(Joined::Owner);
        }
        let Some(silent) = plan.servers().find(|&server| !is_ready(plan, server)) else {
            return Ok(Joined::Attached(plan.folder.wait_in_line()?));
        };
        if begin.elapsed() > OWNER_SPEAKS_WITHIN {
            check_owner_runs(plan, silent)?;
        }
        if begin.elapsed() > READY_WITHIN {
            return Err(plan.silent(silent));
        }
        pause(stop, LOOK)?;
    }
}

/// Waits for the end of the owner, then for that of its servers. An error is [`ServersError::Stopped`] where this
/// process was told to stop; any other one is worth another try.
pub(super) fn follow(plan: &Plan, stop: &Receiver<()>) -> Result<Locks, ServersError> {
    loop {
        pause(stop, FOLLOW)?;
        if let Some(owner) = plan.folder.try_own(&plan.names())? {
            return own(plan, owner, stop);
        }
    }
}

/// Waits, unless told to stop.
pub(super) fn pause(stop: &Receiver<()>, time: Duration) -> Result<(), ServersError> {
    match stop.recv_timeout(time) {
        Err(RecvTimeoutError::Timeout) => Ok(()),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => Err(ServersError::Stopped),
    }
}

fn own(plan: &Plan, owner: File, stop: &Receiver<()>) -> Result<Locks, ServersError> {
    let begin = Instant::now();
    let mut kill_after = LEFTOVERS_END_WITHIN;
    loop {
        if let Some(children) = plan.folder.try_lock()? {
            return Ok(Locks {
                children,
                _owner: owner,
            });
        }
        if begin.elapsed() > LEFTOVERS_WITHIN {
            let dir = plan.folder.dir.clone();
            let pids = names(&plan.folder.holders());
            return Err(ServersError::Leftovers { dir, pids });
        }
        if begin.elapsed() > kill_after {
            kill_after += KILL;
            end_leftovers(&plan.folder.holders());
        }
        pause(stop, LOOK)?;
    }
}

/// A server that was asked to end in the moment of its own start may have missed it. Nobody looks after it any more: its
/// owner is gone, because we have the owner's lock. What it wrote is safe, as after a power cut.
fn end_leftovers(holders: &[Pid]) {
    for &holder in holders {
        let pid = holder.as_raw_nonzero();
        let killed = rustix::process::kill_process(holder, Signal::KILL);
        tracing::warn!(pid, ?killed, "a server outlived its owner: ending it");
    }
}

fn names(holders: &[Pid]) -> String {
    if holders.is_empty() {
        return "not visible to this user".to_owned();
    }
    let pids = holders.iter().map(|pid| format!(" {pid}"));
    std::iter::once("pid".to_owned()).chain(pids).collect()
}

fn is_ready(plan: &Plan, server: Server) -> bool {
    match server {
        Server::Postgres => postgres::is_ready(&plan.folder, None),
        Server::Redis => redis::is_ready(&plan.folder),
    }
}

fn check_owner_runs(plan: &Plan, server: Server) -> Result<(), ServersError> {
    match plan.folder.owner() {
        Some((owner, servers)) if !servers.split(' ').any(|name| name == server.as_str()) => {
            let (dir, server) = (plan.folder.dir.clone(), server.as_str());
            Err(ServersError::OwnerRunsLess { owner, dir, server })
        }
        Some(_) | None => Ok(()),
    }
}
