//! The replicas: real processes, killed, frozen, asked to stop, and started again by their undertaker.
//!
//! Invariant: no process dies unnoticed; a death that nobody ordered is in [`Fleet::unexpected`].

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::{chance::Chance, ground::Ground, plan::Plan, witness};

/// How a worker says that a server is missing, which it may be when it starts.
const SERVER_MISSING: i32 = 3;

/// How workers are started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) arguments: Vec<String>,
    pub(crate) witness: PathBuf,
    pub(crate) short: Duration,
    pub(crate) long: Duration,
    pub(crate) seed: u64,
    /// Whoever dies is started again.
    pub(crate) again: bool,
}

/// A worker that is there.
#[derive(Debug, Clone)]
pub(crate) struct Replica {
    pub(crate) place: usize,
    pub(crate) process: u32,
    /// Its name in leases, without hyphens.
    pub(crate) owner: String,
}

/// All of them.
pub(crate) struct Fleet {
    launch: Launch,
    folder: PathBuf,
    database_url: String,
    redis_url: String,
    plan: Plan,
    state: Mutex<State>,
}

struct State {
    places: Vec<Place>,
    logs: HashMap<u32, PathBuf>,
    ordered: HashSet<u32>,
    unexpected: Vec<String>,
    /// Who was woken up after a freeze, and when: milliseconds of the wall clock, as the witness has them.
    thaws: Vec<(u32, u128)>,
    failed_starts: u32,
    started: usize,
    chance: Chance,
    closing: bool,
}

#[derive(Default)]
struct Place {
    child: Option<Child>,
    frozen: bool,
    /// When the next one is started.
    next: Option<Instant>,
}

impl Fleet {
    /// Starts `replicas` workers and their undertaker.
    pub(crate) fn start(ground: &Ground, plan: Plan, launch: Launch, replicas: usize) -> Arc<Self> {
        let state = State {
            places: (0..replicas)
                .map(|_| Place {
                    next: Some(Instant::now()),
                    ..Place::default()
                })
                .collect(),
            logs: HashMap::new(),
            ordered: HashSet::new(),
            unexpected: Vec::new(),
            thaws: Vec::new(),
            failed_starts: 0,
            started: 0,
            chance: Chance::new(launch.seed ^ 0xF1EE7),
            closing: false,
        };
        let fleet = Arc::new(Self {
            launch,
            folder: ground.folder.clone(),
            database_url: ground.database_url.clone(),
            redis_url: ground.redis_url.clone(),
            plan,
            state: Mutex::new(state),
        });
        let undertaker = Arc::downgrade(&fleet);
        tokio::spawn(async move {
            while let Some(fleet) = undertaker.upgrade() {
                fleet.tend();
                drop(fleet);
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
        });
        fleet
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Buries who died, and starts who is due.
    fn tend(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        for place in &mut state.places {
            if let Some(child) = &mut place.child
                && let Ok(Some(status)) = child.try_wait()
            {
                let process = child.id();
                place.child = None;
                place.frozen = false;
                if status.code() == Some(SERVER_MISSING) {
                    state.failed_starts += 1;
                } else if !self.was_ordered(&state.ordered, process, status) {
                    let log = state.logs.get(&process);
                    state
                        .unexpected
                        .push(format!("worker {process} ended with {status}: {log:?}"));
                }
                place.next = self
                    .launch
                    .again
                    .then(|| Instant::now() + state.chance.millis(200, 1500));
            }
            if place.child.is_none()
                && !state.closing
                && place.next.is_some_and(|next| next <= Instant::now())
            {
                place.next = None;
                state.started += 1;
                match self.spawn(state.started) {
                    Ok((child, log)) => {
                        state.logs.insert(child.id(), log);
                        place.child = Some(child);
                    }
                    Err(error) => state.unexpected.push(format!("no worker: {error:#}")),
                }
            }
        }
    }

    fn was_ordered(&self, ordered: &HashSet<u32>, process: u32, status: ExitStatus) -> bool {
        match status.signal() {
            Some(9) => ordered.contains(&process) || self.plan.dead().contains(&process),
            Some(_) => false,
            None => status.success() && ordered.contains(&process),
        }
    }

    fn spawn(&self, number: usize) -> Result<(Child, PathBuf)> {
        let log = self.folder.join(format!("worker-{number}.log"));
        let file = File::create(&log)?;
        let child = Command::new(std::env::current_exe()?)
            .arg("worker")
            .args(&self.launch.arguments)
            .args(["--connections", "8"])
            .env("DATABASE_URL", &self.database_url)
            .env("REDIS_URL", &self.redis_url)
            .env_remove("GRAPHMILL_LOG")
            .env("TOKIO_WORKER_THREADS", "2")
            .env("WITNESS_FILE", &self.launch.witness)
            .env("WITNESS_MS", self.launch.short.as_millis().to_string())
            .env("WITNESS_LONG_MS", self.launch.long.as_millis().to_string())
            .env("WITNESS_SEED", self.launch.seed.to_string())
            .env("CHAOS_PLAN", self.plan.folder())
            // It ends when this process does, however that ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .context("a worker can't be started")?;
        Ok((child, log))
    }

    /// The worker's name in leases, from the first lines of its log.
    pub(crate) fn owner(&self, process: u32) -> Option<String> {
        let log = self.lock().logs.get(&process)?.clone();
        let text = fs::read_to_string(log).ok()?;
        let (_, rest) = text.split_once("worker_")?;
        let owner: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
        (owner.len() == 32).then_some(owner)
    }

    /// Who is at work, and neither frozen nor about to stop.
    pub(crate) fn awake(&self) -> Vec<Replica> {
        let awake: Vec<(usize, u32)> = {
            let state = self.lock();
            let places = state.places.iter().enumerate();
            places
                .filter(|(_, place)| !place.frozen)
                .filter_map(|(at, place)| Some((at, place.child.as_ref()?.id())))
                .filter(|(_, process)| !state.ordered.contains(process))
                .collect()
        };
        awake
            .into_iter()
            .filter_map(|(place, process)| {
                let owner = self.owner(process)?;
                Some(Replica {
                    place,
                    process,
                    owner,
                })
            })
            .collect()
    }

    /// Sends a signal; `false` if that process is not there any more.
    pub(crate) fn signal(&self, replica: &Replica, signal: Signal) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        let place = &mut state.places[replica.place];
        let Some(child) = &mut place.child else {
            return false;
        };
        if child.id() != replica.process || !matches!(child.try_wait(), Ok(None)) {
            return false;
        }
        match signal {
            Signal::STOP => place.frozen = true,
            _ => _ = state.ordered.insert(replica.process),
        }
        kill_process(Pid::from_child(child), signal).is_ok()
    }

    /// Leaves a process out of [`awake`](Self::awake), for it is frozen.
    pub(crate) fn freezes(&self, process: u32) {
        self.frozen(process, true);
    }

    /// Wakes a frozen process up, if it is still there.
    pub(crate) fn thaw(&self, process: u32) {
        self.frozen(process, false);
    }

    fn frozen(&self, process: u32, frozen: bool) {
        let mut state = self.lock();
        let State { places, thaws, .. } = &mut *state;
        for place in places {
            if let Some(child) = &mut place.child
                && child.id() == process
                && matches!(child.try_wait(), Ok(None))
            {
                place.frozen = frozen;
                if !frozen {
                    let now = witness::now();
                    let _ = kill_process(Pid::from_child(child), Signal::CONT);
                    thaws.push((process, now));
                }
            }
        }
    }

    /// Who was woken up after a freeze, and when.
    pub(crate) fn thaws(&self) -> Vec<(u32, u128)> {
        self.lock().thaws.clone()
    }

    /// Asks all to stop, waits for their end, and says what was wrong with it.
    pub(crate) async fn drain(&self, within: Duration) -> Vec<String> {
        self.lock().closing = true;
        for replica in self.present() {
            self.signal(&replica, Signal::TERM);
        }
        let begun = Instant::now();
        let mut wrong = Vec::new();
        while !self.present().is_empty() {
            if begun.elapsed() > within {
                for replica in self.present() {
                    wrong.push(format!("worker {} did not stop", replica.process));
                    self.signal(&replica, Signal::KILL);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        wrong.append(&mut self.lock().unexpected);
        wrong
    }

    fn present(&self) -> Vec<Replica> {
        let state = self.lock();
        let places = state.places.iter().enumerate();
        places
            .filter_map(|(place, it)| {
                Some(Replica {
                    place,
                    process: it.child.as_ref()?.id(),
                    owner: String::new(),
                })
            })
            .collect()
    }

    /// Starts that failed because a server was away.
    pub(crate) fn failed_starts(&self) -> u32 {
        self.lock().failed_starts
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for place in &mut self.lock().places {
            if let Some(child) = &mut place.child {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
