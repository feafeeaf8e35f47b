//! Following one topic: the log up to where the tail is, then the tail; and the log again whenever the line was cut.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use graphmill_jobs::{BatchId, OrganizationId, WorkflowExecutionId};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Feed, Snapshot,
    feed::{Follows, Subscription},
    snapshot::{BatchSnapshot, ExecutionSnapshot},
};
use crate::store::{self, LogEntry, StoreError, Topic};

/// Entries of the log in one read.
const PAGE: usize = 256;
/// The last entries of an execution that are looked at for how far it is; those that say nothing of that are few.
const LAST: i64 = 64;
/// How long Postgres may be away before a follower gives up.
const AWAY: Duration = Duration::from_secs(60);
/// The pause before another try.
const PAUSE: Duration = Duration::from_millis(250);

/// Something that is being followed.
pub struct Following {
    /// How it stood at the position after which the follower begins; none if somebody knows that already.
    pub snapshot: Option<Snapshot>,
    /// There is nothing to follow any more: it had ended, and nothing was told since.
    pub over: bool,
    /// Events after the position that was asked for were deleted for their age: what comes would have a gap.
    pub pruned: bool,
    /// What comes.
    pub follower: Follower,
}

/// Hands out the events of a topic, one after the other.
pub struct Follower {
    feed: Feed,
    _follows: Follows,
    organization: OrganizationId,
    topic: Topic,
    position: i64,
    /// It had ended when it was asked for: the log is read to its end, and no tail is waited for.
    ended: bool,
    page: VecDeque<Arc<LogEntry>>,
    source: Source,
    catch_ups: u64,
}

enum Source {
    /// More of the log is to be read.
    Log,
    /// The log is read up to a moment ago.
    Join,
    Tail(Subscription),
    Over,
}

/// Follows a batch from a position on, or from now on. `None`: there is no such batch.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn follow_batch(
    feed: &Feed,
    organization: OrganizationId,
    id: BatchId,
    after: Option<i64>,
) -> Result<Option<Following>, StoreError> {
    let store = &feed.shared.store;
    let mut read = store.app_snapshot(organization).await?;
    let Some(batch) = store::batch_by_id(&mut read, organization, id).await? else {
        return Ok(None);
    };
    let last = store::last_of_batch(&mut read, organization, id).await?;
    let pruned = store::events_pruned_to(&mut read, organization, id).await?;
    read.rollback().await?;
    let pruned = pruned.unwrap_or(0);
    let snapshot = after
        .is_none()
        .then(|| Snapshot::Batch(Box::new(BatchSnapshot::of(&batch, last))));
    let ended = batch.state.name().has_ended();
    let from = Beginning {
        last,
        ended,
        pruned,
    };
    Ok(Some(Following::new(
        feed,
        organization,
        Topic::Batch(id),
        after,
        from,
        snapshot,
    )))
}

/// Follows an execution from a position on, or from now on. `None`: there is no such execution.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn follow_execution(
    feed: &Feed,
    organization: OrganizationId,
    id: WorkflowExecutionId,
    after: Option<i64>,
) -> Result<Option<Following>, StoreError> {
    let store = &feed.shared.store;
    let mut read = store.app_snapshot(organization).await?;
    let Some(execution) = store::execution_by_id(&mut read, organization, id).await? else {
        return Ok(None);
    };
    let entries = store::last_of_execution(&mut read, organization, id, LAST).await?;
    let pruned = store::events_pruned_to(&mut read, organization, execution.batch).await?;
    read.rollback().await?;
    let pruned = pruned.unwrap_or(0);
    // Not by its row, which is ahead of the log.
    let last = entries.first();
    let ended = last
        .and_then(LogEntry::kind)
        .is_some_and(|kind| kind.ends_execution());
    let last = last.map_or(0, |entry| entry.position);
    let snapshot = after.is_none().then(|| {
        Snapshot::Execution(Box::new(ExecutionSnapshot::of(
            id,
            execution.batch,
            &entries,
        )))
    });
    let from = Beginning {
        last,
        ended,
        pruned,
    };
    Ok(Some(Following::new(
        feed,
        organization,
        Topic::Execution(id),
        after,
        from,
        snapshot,
    )))
}

/// How a log stands when it is asked for.
struct Beginning {
    /// The position of its last event.
    last: i64,
    /// It has ended.
    ended: bool,
    /// Events up to there were deleted for their age.
    pruned: i64,
}

impl Following {
    fn new(
        feed: &Feed,
        organization: OrganizationId,
        topic: Topic,
        after: Option<i64>,
        Beginning {
            last,
            ended,
            pruned,
        }: Beginning,
        snapshot: Option<Snapshot>,
    ) -> Self {
        let position = after.unwrap_or(last);
        Self {
            snapshot,
            over: ended && position >= last,
            pruned: position < pruned.min(last),
            follower: Follower {
                feed: feed.clone(),
                _follows: feed.follows(),
                organization,
                topic,
                position,
                ended,
                page: VecDeque::new(),
                source: Source::Join,
                catch_ups: 0,
            },
        }
    }
}

impl Follower {
    /// What it follows.
    #[must_use]
    pub const fn topic(&self) -> Topic {
        self.topic
    }

    /// The position up to which it has handed everything out.
    #[must_use]
    pub const fn position(&self) -> i64 {
        self.position
    }

    /// How often it was too slow for the tail, and read the log instead.
    #[must_use]
    pub const fn catch_ups(&self) -> u64 {
        self.catch_ups
    }

    /// Whether the process stops, which ends every follower before its time.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.feed.shared.stop.is_cancelled()
    }

    /// The next event; none: the last one was the end, or the process stops.
    ///
    /// # Errors
    /// [`StoreError::Query`] when Postgres was away for a minute: following anew from [`Follower::position`] goes on.
    pub async fn next(&mut self) -> Result<Option<Arc<LogEntry>>, StoreError> {
        loop {
            if let Some(entry) = self.page.pop_front() {
                return Ok(Some(self.hand_out(entry)));
            }
            if self.is_stopped() {
                return Ok(None);
            }
            match &mut self.source {
                Source::Over => return Ok(None),
                Source::Log => {
                    if !Box::pin(self.read()).await? {
                        self.source = Source::Join;
                    }
                }
                Source::Join => {
                    let joined = if self.ended {
                        None
                    } else {
                        let (organization, topic) = (self.organization, self.topic);
                        self.feed.join(organization, topic).await
                    };
                    // After it has joined: what is between the log and the tail is in one of them, or in both.
                    let more = Box::pin(self.read()).await?;
                    self.source = match joined {
                        _ if more => Source::Log,
                        Some(joined) => Source::Tail(joined),
                        None => Source::Over,
                    };
                }
                Source::Tail(tail) => match tail.next().await {
                    Some(entry) if entry.position > self.position => {
                        return Ok(Some(self.hand_out(entry)));
                    }
                    Some(_) => {}
                    None => {
                        self.catch_ups += 1;
                        self.source = Source::Log;
                    }
                },
            }
        }
    }

    /// Up to `most` events that there are; if there are none, those that come within `wait`.
    ///
    /// # Errors
    /// As [`Follower::next`].
    pub async fn take(
        &mut self,
        most: usize,
        wait: Duration,
    ) -> Result<Vec<Arc<LogEntry>>, StoreError> {
        let mut taken: Vec<_> = self.log(most).await?.into_iter().map(Arc::new).collect();
        if taken.is_empty() && !wait.is_zero() && !self.ended {
            if let Ok(came) = timeout(wait, self.next()).await {
                taken.extend(came?);
            }
            if let Some(first) = taken.first() {
                self.position = first.position;
                let more = self.log(most - 1).await?;
                taken.extend(more.into_iter().map(Arc::new));
            }
        }
        if let Some(last) = taken.last() {
            self.position = last.position;
        }
        Ok(taken)
    }

    fn hand_out(&mut self, entry: Arc<LogEntry>) -> Arc<LogEntry> {
        self.position = entry.position;
        let ends = entry.kind().is_some_and(|kind| match self.topic {
            Topic::Batch(_) => kind.ends_batch(),
            Topic::Execution(_) => kind.ends_execution(),
        });
        if ends {
            self.page.clear();
            self.source = Source::Over;
        }
        entry
    }

    /// Reads on in the log (in a box: a follower that waits holds no room for a read); returns whether there may be more of it.
    async fn read(&mut self) -> Result<bool, StoreError> {
        let page = self.log(PAGE).await?;
        let full = page.len() == PAGE;
        self.page = page.into_iter().map(Arc::new).collect();
        Ok(full)
    }

    /// What the log has after the position, `most` entries at most; nothing if the process stops meanwhile.
    async fn log(&self, most: usize) -> Result<Vec<LogEntry>, StoreError> {
        let begun = Instant::now();
        let (organization, topic, after) = (self.organization, self.topic, self.position);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        loop {
            let store = &self.feed.shared.store;
            let read = async {
                let mut read = store.app(organization).await?;
                let page = store::log_after(&mut read, organization, topic, after, most).await?;
                read.rollback().await?;
                Ok::<_, StoreError>(page)
            };
            match read.await {
                Err(error) if error.is_transient() && begun.elapsed() < AWAY => {
                    tokio::select! {
                        () = sleep(PAUSE) => {}
                        () = self.feed.shared.stop.cancelled() => return Ok(Vec::new()),
                    }
                }
                done => return done,
            }
        }
    }
}
