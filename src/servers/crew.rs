//! The running servers of an owner: boot, restart, stop. Knows processes by their handles and restarts them; leaves
//! what a server is to `postgres` and `redis`.

use std::process::Child;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::attach::{self, Locks, READY_WITHIN};
use super::plan::Plan;
use super::supervisor::Shared;
use super::{Server, ServersError, child, postgres, redis};

/// How often the children are looked at while they run.
const WATCH: Duration = Duration::from_millis(100);

/// How often they are looked at while they start or stop.
const POLL: Duration = Duration::from_millis(3);

/// The wait before the first restart; it doubles up to [`LONGEST_BACKOFF`].
pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// The longest wait between two restarts.
pub(super) const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// A server that ran this long is sound: its next restart begins with the shortest wait again.
const SOUND_AFTER: Duration = Duration::from_secs(10);

/// The servers of an owner. Dropping it stops them.
pub(super) struct Crew<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    locks: Locks,
    posts: Vec<Post>,
}

/// One server's place.
struct Post {
    server: Server,
    child: Option<Child>,
    /// When the child was started, or may be.
    since: Instant,
    backoff: Duration,
}

impl<'a> Crew<'a> {
    pub(super) fn new(plan: &'a Plan, shared: &'a Shared, locks: Locks) -> Self {
        let since = Instant::now();
        let post = |server| Post {
            server,
            child: None,
            since,
            backoff: FIRST_BACKOFF,
        };
        Self {
            plan,
            shared,
            locks,
            posts: plan.servers().map(post).collect(),
        }
    }

    /// Starts all servers and waits until they answer.
    pub(super) fn boot(&mut self, stop: &Receiver<()>) -> Result<(), ServersError> {
        self.plan.prepare(&self.locks)?;
        for post in &mut self.posts {
            post.start(self.plan, self.shared, &self.locks)?;
        }
        let begin = Instant::now();
        for post in &mut self.posts {
            while !post.is_ready(self.plan)? {
                if begin.elapsed() > READY_WITHIN {
                    return Err(self.plan.silent(post.server));
                }
                attach::pause(stop, POLL)?;
            }
        }
        Ok(())
    }

    /// Restarts what dies, until told to stop.
    pub(super) fn watch(&mut self, stop: &Receiver<()>) {
        loop {
            for post in &mut self.posts {
                post.tend(self.plan, self.shared, &self.locks);
            }
            if attach::pause(stop, WATCH).is_err() {
                return;
            }
        }
    }

    /// Asks the servers to end, then less and less kindly.
    fn stop(&mut self) {
        for (signal, seconds) in [(None, 10), (Some(Signal::QUIT), 3), (Some(Signal::KILL), 3)] {
            for post in &mut self.posts {
                post.signal(signal.unwrap_or(kind_end(post.server)));
            }
            let begin = Instant::now();
            while self.posts.iter_mut().any(|post| !post.is_over()) {
                if begin.elapsed() > Duration::from_secs(seconds) {
                    break;
                }
                thread::sleep(POLL);
            }
        }
        for post in &self.posts {
            self.shared.set_pid(post.server, None);
        }
    }
}

impl Drop for Crew<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The signal for a quick and clean end.
fn kind_end(server: Server) -> Signal {
    match server {
        Server::Postgres => Signal::INT,
        Server::Redis => Signal::TERM,
    }
}

impl Post {
    fn start(&mut self, plan: &Plan, shared: &Shared, locks: &Locks) -> Result<(), ServersError> {
        let child = plan.spawn(self.server, locks)?;
        shared.set_pid(self.server, Some(child.id()));
        self.child = Some(child);
        self.since = Instant::now();
        Ok(())
    }

    /// Whether the server answers; an error when it has ended instead.
    fn is_ready(&mut self, plan: &Plan) -> Result<bool, ServersError> {
        let Some(child) = &mut self.child else {
            return Ok(false);
        };
        if let Ok(Some(status)) = child.try_wait() {
            let (log, tail) = (
                plan.folder.log(self.server),
                plan.folder.log_tail(self.server),
            );
            return Err(ServersError::Died {
                server: self.server.as_str(),
                status,
                log,
                tail,
            });
        }
        Ok(match self.server {
            Server::Postgres => postgres::is_ready(&plan.folder, Some(child.id())),
            Server::Redis => redis::is_ready(&plan.folder),
        })
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(child) = &mut self.child
            && matches!(child.try_wait(), Ok(None))
        {
            child::signal(child, signal);
        }
    }

    /// Whether no process of it is left to wait for.
    fn is_over(&mut self) -> bool {
        self.child
            .as_mut()
            .is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Notices a death, and starts the server again when its wait is over.
    fn tend(&mut self, plan: &Plan, shared: &Shared, locks: &Locks) {
        let server = self.server.as_str();
        if let Some(child) = &mut self.child {
            let Ok(Some(status)) = child.try_wait() else {
                if self.since.elapsed() > SOUND_AFTER {
                    self.backoff = FIRST_BACKOFF;
                }
                return;
            };
            tracing::warn!(
                server, %status, log = plan.folder.log_tail(self.server),
                "a private server has died: starting it again"
            );
            self.child = None;
            shared.set_pid(self.server, None);
            self.wait_longer();
        }
        if self.since > Instant::now() {
            return;
        }
        if let Err(error) = self.start(plan, shared, locks) {
            tracing::error!(server, %error, "can't start a private server again; trying later");
            self.wait_longer();
        }
    }

    fn wait_longer(&mut self) {
        self.since = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
    }
}
