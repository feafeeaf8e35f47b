//! The tail of the log: read once for a whole process, and handed to everybody in it who follows something.
//!
//! A ring from the sequencer's transaction says when to look; a look every second is the truth. Invariants: a topic's
//! subscriber is handed every event after the position at which it joined, or its line is cut and it knows; a full line
//! is cut, so the tail waits for nobody; and while nobody follows anything, nothing is read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use graphmill_jobs::OrganizationId;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::{
    metrics,
    store::{self, LogEntry, Store, StoreError, TailRow, Topic},
};

/// How often the log is looked at without a ring.
const LOOK: Duration = Duration::from_secs(1);
/// Rows of the log in one read.
const PAGE: i64 = 1000;
/// Events that wait for one subscriber; with more, it reads the log by itself.
const LINE: usize = 64;
/// How long the tail is read on when nobody is left, since whoever was cut off comes back.
const LINGER: Duration = Duration::from_secs(10);
/// The pause before another try when Postgres is away.
const PAUSE: Duration = Duration::from_millis(250);

/// The tail of the log, shared by a process; cheap to clone. Its reader ends with the last clone.
#[derive(Clone)]
pub struct Feed {
    pub(super) shared: Arc<Shared>,
    _reader: Arc<DropGuard>,
}

pub(super) struct Shared {
    pub(super) store: Store,
    hub: Mutex<Hub>,
    /// There is something to read, or somebody to read it for.
    wake: Notify,
    live: watch::Sender<bool>,
    pub(super) stop: CancellationToken,
}

#[derive(Default)]
struct Hub {
    /// The tail is being read: whoever joins now is handed what comes.
    live: bool,
    followers: usize,
    joined: u64,
    topics: HashMap<Topic, Vec<Subscriber>>,
}

struct Subscriber {
    number: u64,
    organization: OrganizationId,
    line: mpsc::Sender<Arc<LogEntry>>,
}

/// That somebody follows: the tail is read for as long as there is one.
pub(super) struct Follows(Arc<Shared>);

/// What comes of a topic, from when it was joined.
pub(super) struct Subscription {
    shared: Arc<Shared>,
    topic: Topic,
    number: u64,
    line: mpsc::Receiver<Arc<LogEntry>>,
}

impl Feed {
    /// Over this store's log. It reads nothing before somebody follows something.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            store,
            hub: Mutex::default(),
            wake: Notify::new(),
            live: watch::Sender::new(false),
            stop: stop.clone(),
        });
        tokio::spawn(read(Arc::clone(&shared)));
        Self {
            shared,
            _reader: Arc::new(stop.drop_guard()),
        }
    }

    /// Ends every follower, now and from now on: the process stops.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// How many follow something at this moment.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.shared.lock().followers
    }

    pub(super) fn follows(&self) -> Follows {
        self.shared.lock().followers += 1;
        self.shared.wake.notify_one();
        Follows(Arc::clone(&self.shared))
    }

    /// Joins a topic once the tail is being read; none if the process stops. Only while one [`Follows`].
    pub(super) async fn join(
        &self,
        organization: OrganizationId,
        topic: Topic,
    ) -> Option<Subscription> {
        let shared = &self.shared;
        let mut reading = shared.live.subscribe();
        loop {
            tokio::select! {
                () = shared.stop.cancelled() => return None,
                there = reading.wait_for(|live| *live) => {
                    there.ok()?;
                }
            }
            let mut hub = shared.lock();
            // It may have ended since.
            if !hub.live {
                continue;
            }
            hub.joined += 1;
            let number = hub.joined;
            let (line, taken) = mpsc::channel(LINE);
            hub.topics.entry(topic).or_default().push(Subscriber {
                number,
                organization,
                line,
            });
            return Some(Subscription {
                shared: Arc::clone(shared),
                topic,
                number,
                line: taken,
            });
        }
    }
}

impl Drop for Follows {
    fn drop(&mut self) {
        self.0.lock().followers -= 1;
    }
}

impl Subscription {
    /// The next event; none: the line was cut, and the log knows what came since.
    pub(super) async fn next(&mut self) -> Option<Arc<LogEntry>> {
        self.line.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut hub = self.shared.lock();
        if let Some(subscribers) = hub.topics.get_mut(&self.topic) {
            subscribers.retain(|subscriber| subscriber.number != self.number);
            if subscribers.is_empty() {
                hub.topics.remove(&self.topic);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands rows to whom they concern.
    fn hand_out(&self, rows: Vec<TailRow>) {
        let mut hub = self.lock();
        for row in rows {
            let topics = [
                Some(Topic::Batch(row.batch)),
                row.execution.map(Topic::Execution),
            ];
            let entry = row.entry.map(Arc::new);
            if entry.is_some() {
                metrics::get().service.stream_lag(row.age);
            }
            for topic in topics.into_iter().flatten() {
                let Some(subscribers) = hub.topics.get_mut(&topic) else {
                    continue;
                };
                subscribers.retain(|subscriber| {
                    if subscriber.organization != row.organization {
                        return true;
                    }
                    // Who joined while these rows were on their way has not had them asked for: the log has them.
                    let Some(entry) = &entry else { return false };
                    subscriber.line.try_send(Arc::clone(entry)).is_ok()
                });
                if subscribers.is_empty() {
                    hub.topics.remove(&topic);
                }
            }
        }
    }

    fn wanted(&self) -> (Vec<Uuid>, Vec<Uuid>) {
        let (mut batches, mut executions) = (Vec::new(), Vec::new());
        for topic in self.lock().topics.keys() {
            match topic {
                Topic::Batch(id) => batches.push(id.uuid()),
                Topic::Execution(id) => executions.push(id.uuid()),
            }
        }
        (batches, executions)
    }

    /// Whether the tail may rest: nobody follows. From then on nobody can join before it is read again.
    fn rests(&self) -> bool {
        let mut hub = self.lock();
        if hub.followers > 0 {
            return false;
        }
        hub.live = false;
        self.live.send_replace(false);
        true
    }

    fn goes_live(&self) {
        self.lock().live = true;
        self.live.send_replace(true);
    }
}

/// Reads the tail whenever somebody follows, until the process stops.
async fn read(shared: Arc<Shared>) {
    let work = async {
        loop {
            if shared.lock().followers == 0 {
                shared.wake.notified().await;
                continue;
            }
            let from = base(&shared).await;
            shared.goes_live();
            let listening = tokio::spawn(listen(Arc::clone(&shared)));
            tail(&shared, from).await;
            listening.abort();
        }
    };
    tokio::select! {
        () = work => {}
        () = shared.stop.cancelled() => {}
    }
    let mut hub = shared.lock();
    hub.live = false;
    hub.topics.clear();
}

/// Where the log ends at this moment.
async fn base(shared: &Shared) -> i64 {
    let mut failing = false;
    loop {
        let read = async {
            let mut connection = shared.store.engine().await?;
            store::last_position(&mut connection).await
        };
        match read.await {
            Ok(position) => return position,
            Err(error) => say_once(&mut failing, &error),
        }
        sleep(PAUSE).await;
    }
}

/// Reads on from a position for as long as somebody follows.
async fn tail(shared: &Shared, mut position: i64) {
    let (mut failing, mut needed) = (false, Instant::now());
    loop {
        tokio::select! {
            () = shared.wake.notified() => {}
            () = sleep(if failing { PAUSE } else { LOOK }) => {}
        }
        loop {
            match page(shared, position).await {
                Ok(rows) => {
                    failing = false;
                    let Some(last) = rows.last() else { break };
                    position = last.position;
                    let full = i64::try_from(rows.len()) == Ok(PAGE);
                    shared.hand_out(rows);
                    if !full {
                        break;
                    }
                }
                Err(error) => {
                    say_once(&mut failing, &error);
                    break;
                }
            }
        }
        if shared.lock().followers > 0 {
            needed = Instant::now();
        } else if needed.elapsed() >= LINGER && shared.rests() {
            return;
        }
    }
}

async fn page(shared: &Shared, after: i64) -> Result<Vec<TailRow>, StoreError> {
    let mut connection = shared.store.engine().await?;
    let (batches, executions) = shared.wanted();
    store::log_tail(&mut connection, after, &batches, &executions, PAGE).await
}

/// Wakes the reader whenever the sequencer has given positions.
async fn listen(shared: Arc<Shared>) {
    loop {
        if let Ok(mut bell) = shared.store.event_bell().await {
            loop {
                // What came before it listened, or while it did not, is looked for too.
                shared.wake.notify_one();
                if let Err(error) = bell.rung().await {
                    debug!(
                        error = &error as &dyn std::error::Error,
                        "no rings are heard: the log is looked at every second"
                    );
                    break;
                }
            }
        }
        sleep(LOOK).await;
    }
}

fn say_once(failing: &mut bool, error: &StoreError) {
    if !std::mem::replace(failing, true) {
        warn!(
            error = error as &dyn std::error::Error,
            "the tail of the log can't be read: streams wait, and lose nothing"
        );
    }
}
