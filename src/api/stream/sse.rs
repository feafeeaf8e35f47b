//! A stream of Server-Sent Events.
//!
//! Invariant: nothing is made before the client's connection takes it, so a reader that stops reading costs what is on
//! its way and no more.

use std::{convert::Infallible, time::Duration};

use axum::{
    http::{HeaderName, HeaderValue},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;

use super::{
    Shape,
    tally::{End, Tallies, Tally},
};
use crate::{
    store::LogEntry,
    workflow::{Follower, Following, Snapshot},
};

/// How often a silent stream says that it is there. **Source:** the issue of the service: 15 s, within what proxies
/// wait for.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client is asked to wait before it comes back.
const RETRY: Duration = Duration::from_secs(1);
/// Proxies hold back what they take for a page.
const NO_BUFFERING: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
);

struct Sending {
    first: Vec<Event>,
    follower: Follower,
    shape: Shape,
    tally: Tally,
}

/// Answers with the snapshot, if there is one, and all that follows.
pub(super) fn answer(following: Following, shape: Shape, tallies: &Tallies) -> Response {
    let Following {
        snapshot, follower, ..
    } = following;
    let begin = Event::default().retry(RETRY);
    let snapshot = snapshot.and_then(|snapshot| of_snapshot(&snapshot, shape));
    let sending = Sending {
        // Taken from behind.
        first: snapshot.into_iter().chain([begin]).collect(),
        follower,
        shape,
        tally: tallies.open(),
    };
    let events = stream::unfold(sending, |mut sending| async move {
        let event = sending.next().await?;
        Some((Ok::<_, Infallible>(event), sending))
    });
    let keep_alive = KeepAlive::new().interval(HEARTBEAT);
    ([NO_BUFFERING], Sse::new(events).keep_alive(keep_alive)).into_response()
}

impl Sending {
    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.first.pop() {
            return Some(event);
        }
        loop {
            match self.follower.next().await {
                Ok(Some(entry)) => {
                    if let Some(event) = of_entry(&entry, self.shape) {
                        self.tally.sent();
                        return Some(event);
                    }
                }
                Ok(None) => {
                    let stopped = self.follower.is_stopped();
                    self.tally.end(
                        if stopped { End::Stopped } else { End::Over },
                        self.follower.catch_ups(),
                    );
                    return None;
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a stream breaks off: its client comes back"
                    );
                    self.tally.end(End::Failed, self.follower.catch_ups());
                    return None;
                }
            }
        }
    }
}

/// Maps are written with names for keys, so what could fail to be JSON is a bug; the event is left out then.
fn of_entry(entry: &LogEntry, shape: Shape) -> Option<Event> {
    let data = shape.of(entry)?.ok()?;
    let event = Event::default().id(entry.position.to_string()).data(data);
    Some(match shape {
        Shape::Events => event.event(&entry.name),
        Shape::Progress => event,
    })
}

fn of_snapshot(snapshot: &Snapshot, shape: Shape) -> Option<Event> {
    let event = Event::default().id(snapshot.position().to_string());
    match shape {
        Shape::Events => Some(
            event
                .event("Snapshot")
                .data(serde_json::to_string(snapshot).ok()?),
        ),
        Shape::Progress => {
            let progress = snapshot.progress()?;
            Some(event.data(serde_json::to_string(&progress).ok()?))
        }
    }
}
