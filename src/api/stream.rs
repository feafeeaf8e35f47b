//! Live progress: a batch or an execution is followed by Server-Sent Events, or polled as JSON from the same log.
//!
//! Knows how a position travels (`id:`, `Last-Event-ID`, `?after=`) and what is sent of an event. Must not know where
//! events come from ([`crate::workflow::Feed`]). Invariants: an id is the position up to which its reader has been told
//! everything, so that any replica goes on from it; the last event of a batch or an execution ends the response; and
//! whoever comes back for more of what is over is answered 204, at which an `EventSource` stops.

mod poll;
mod sse;
mod tally;

use axum::{
    extract::{self, Path, Query, rejection::QueryRejection},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use graphmill_jobs::OrganizationId;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::poll::Polled;
pub use self::tally::StreamCounts;
pub(super) use self::tally::Tallies;

use super::{State, access::Streams, batches, problem::Problem};
use crate::{
    store::{LogEntry, Patience, Store, StoreError},
    workflow::{
        self, EventMessage, Feed, Following, ProgressMessage, follow_batch, follow_execution,
    },
};

/// Streams that a process has open at once. **Source:** ours: some 30 KB each, and a descriptor.
const MOST_STREAMS: usize = 10_000;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(batch_events))
        .routes(routes!(execution_events))
        .routes(routes!(batch_progress))
        .routes(routes!(execution_progress))
}

/// What may be asked of a stream.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StreamQuery {
    /// A position: what comes after it is wanted.
    after: Option<i64>,
    /// The answer is to be JSON, and at once.
    poll: Option<String>,
    /// For how many seconds a poll may wait for something.
    wait: Option<u64>,
    /// The most events in the answer to a poll.
    limit: Option<i64>,
    /// Who asks, where no header can say it ([`super::access`]).
    #[serde(rename = "token")]
    _token: Option<String>,
}

/// What is to be followed, as the path names it.
#[derive(Debug)]
enum Subject {
    /// By its id or name.
    Batch(String),
    /// By its id.
    Execution(String),
}

/// What is said of each event.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// All of it, under its name.
    Events,
    /// How far an execution is, if it says so; without a name, so that `onmessage` hears it.
    Progress,
}

impl Shape {
    /// What is said of `entry`, as JSON.
    fn of(self, entry: &LogEntry) -> Option<Result<String, serde_json::Error>> {
        match self {
            Self::Events => Some(serde_json::to_string(&EventMessage::of(entry))),
            Self::Progress => {
                ProgressMessage::of(entry).map(|message| serde_json::to_string(&message))
            }
        }
    }
}

type Asked = Result<Query<StreamQuery>, QueryRejection>;

/// Follows a batch: how it stands, unless a position is given, and then every event of its log.
#[utoipa::path(get, path = "/api/batches/{batch}/events", tag = "live",
    params(("batch" = String, Path, description = "Its id or name"), StreamQuery), responses(
    (status = 200, description = "What happens, as server-sent events whose ids are positions; as JSON to a poll",
        content((String = "text/event-stream"), (Polled = "application/json"))),
    (status = 204, description = "Nothing has come after that position, and nothing will"),
    (status = 400, description = "A parameter is none"),
    (status = 404, description = "There is no such batch"),
    (status = 410, description = "Events after that position were deleted for their age"),
))]
async fn batch_events(
    extract::State(state): extract::State<State>,
    Streams(organization): Streams,
    Path(wanted): Path<String>,
    query: Asked,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = Request::read(Shape::Events, query, &headers)?;
    asked
        .answer(&state, organization, &Subject::Batch(wanted))
        .await
}

/// Follows how far a batch and its executions are, in events without a name.
#[utoipa::path(get, path = "/api/knowledge/extraction/progress/{batch}", tag = "live",
    params(("batch" = String, Path, description = "Its id or name"), StreamQuery), responses(
    (status = 200, description = "What happens, as server-sent events whose ids are positions; as JSON to a poll",
        content((String = "text/event-stream"), (Polled = "application/json"))),
    (status = 204, description = "Nothing has come after that position, and nothing will"),
    (status = 400, description = "A parameter is none"),
    (status = 404, description = "There is no such batch"),
    (status = 410, description = "Events after that position were deleted for their age"),
))]
async fn batch_progress(
    extract::State(state): extract::State<State>,
    Streams(organization): Streams,
    Path(wanted): Path<String>,
    query: Asked,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = Request::read(Shape::Progress, query, &headers)?;
    asked
        .answer(&state, organization, &Subject::Batch(wanted))
        .await
}

/// Follows an execution: how it stands, unless a position is given, and then every event of its log.
#[utoipa::path(get, path = "/api/executions/{execution}/events", tag = "live",
    params(("execution" = String, Path, description = "Its id"), StreamQuery), responses(
    (status = 200, description = "What happens, as server-sent events whose ids are positions; as JSON to a poll",
        content((String = "text/event-stream"), (Polled = "application/json"))),
    (status = 204, description = "Nothing has come after that position, and nothing will"),
    (status = 400, description = "A parameter is none"),
    (status = 404, description = "There is no such execution"),
    (status = 410, description = "Events after that position were deleted for their age"),
))]
async fn execution_events(
    extract::State(state): extract::State<State>,
    Streams(organization): Streams,
    Path(wanted): Path<String>,
    query: Asked,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = Request::read(Shape::Events, query, &headers)?;
    asked
        .answer(&state, organization, &Subject::Execution(wanted))
        .await
}

/// Follows how far an execution is, in events without a name.
#[utoipa::path(get, path = "/api/workflows/{execution}/progress", tag = "live",
    params(("execution" = String, Path, description = "Its id"), StreamQuery), responses(
    (status = 200, description = "What happens, as server-sent events whose ids are positions; as JSON to a poll",
        content((String = "text/event-stream"), (Polled = "application/json"))),
    (status = 204, description = "Nothing has come after that position, and nothing will"),
    (status = 400, description = "A parameter is none"),
    (status = 404, description = "There is no such execution"),
    (status = 410, description = "Events after that position were deleted for their age"),
))]
async fn execution_progress(
    extract::State(state): extract::State<State>,
    Streams(organization): Streams,
    Path(wanted): Path<String>,
    query: Asked,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = Request::read(Shape::Progress, query, &headers)?;
    asked
        .answer(&state, organization, &Subject::Execution(wanted))
        .await
}

/// What is asked for, once it is understood.
struct Request {
    shape: Shape,
    after: Option<i64>,
    poll: Option<poll::Poll>,
}

impl Request {
    fn read(shape: Shape, query: Asked, headers: &HeaderMap) -> Result<Self, Problem> {
        let Ok(Query(query)) = query else {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "the parameters are `after` (a position), `poll`, and with that `wait` (seconds) and `limit`",
            ));
        };
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        // An `EventSource` that comes back asks for the same address, so the header knows better.
        let after = match text(LAST_EVENT_ID).filter(|id| !id.is_empty()) {
            Some(id) => Some(id.parse().ok()),
            None => query.after.map(Some),
        };
        let after = match after {
            None => None,
            Some(after) => Some(after.filter(|after: &i64| *after >= 0).ok_or_else(|| {
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    "a position is the whole number that an event has as its id; 0 is before the first one",
                )
            })?),
        };
        let accept = text(header::ACCEPT).unwrap_or_default();
        let wants_json =
            accept.contains("application/json") && !accept.contains("text/event-stream");
        let poll = (query.poll.is_some() || wants_json)
            .then(|| poll::Poll::new(query.wait, query.limit))
            .transpose()?;
        Ok(Self { shape, after, poll })
    }

    async fn answer(
        self,
        state: &State,
        organization: OrganizationId,
        subject: &Subject,
    ) -> Result<Response, Problem> {
        let shared = &state.0;
        if shared.feed.followers() >= MOST_STREAMS {
            return Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many streams are open here: trying again helps",
            ));
        }
        // An `EventSource` gives up at a 503: a restart of Postgres is waited for.
        let mut patience = Patience::new();
        let following = loop {
            match self
                .follow(&shared.store, &shared.feed, organization, subject)
                .await
            {
                Err(error) if patience.again(&error).await => {}
                followed => break followed?,
            }
        };
        let following = following.ok_or_else(|| subject.unknown())?;
        if following.pruned {
            return Err(Problem::new(
                StatusCode::GONE,
                "events after that position were deleted for their age: ask without a position for how it stands",
            ));
        }
        match self.poll {
            Some(poll) => poll.answer(following, self.shape).await,
            None if following.over && self.after.is_some() => {
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            None => Ok(sse::answer(following, self.shape, &shared.tallies)),
        }
    }

    /// `None`: there is no such thing.
    async fn follow(
        &self,
        store: &Store,
        feed: &Feed,
        organization: OrganizationId,
        subject: &Subject,
    ) -> Result<Option<Following>, StoreError> {
        match subject {
            Subject::Batch(wanted) => {
                let Some(id) = workflow::find_batch(store, organization, wanted).await? else {
                    return Ok(None);
                };
                follow_batch(feed, organization, id, self.after).await
            }
            Subject::Execution(wanted) => match wanted.parse() {
                Ok(id) => follow_execution(feed, organization, id, self.after).await,
                Err(_) => Ok(None),
            },
        }
    }
}

impl Subject {
    fn unknown(&self) -> Problem {
        match self {
            Self::Batch(_) => batches::unknown(),
            Self::Execution(_) => Problem::new(StatusCode::NOT_FOUND, "no execution has this id"),
        }
    }
}
