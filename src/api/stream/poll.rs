//! The same log, asked for piece by piece: for clients that can't hold a stream open.

use std::time::Duration;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::Shape;
use crate::{
    api::problem::Problem,
    workflow::{Following, Snapshot},
};

/// The most events in an answer: at most, and where nobody says.
const MOST: i64 = 1000;
const USUAL: i64 = 500;
/// The longest that a poll waits, within the time of a request.
const LONGEST_WAIT: u64 = 20;

/// How a poll is to be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Poll {
    wait: Duration,
    limit: usize,
}

/// An answer.
#[derive(Serialize, ToSchema)]
pub(super) struct Polled {
    /// How it stands, for whoever asks without a position.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    snapshot: Option<Box<RawValue>>,
    /// What has happened since.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Box<RawValue>>,
    /// The position to ask with the next time.
    next: i64,
    /// Nothing more is to come.
    ended: bool,
}

impl Poll {
    pub(super) fn new(wait: Option<u64>, limit: Option<i64>) -> Result<Self, Problem> {
        let limit = limit.unwrap_or(USUAL);
        let wait = wait.unwrap_or(0);
        if !(1..=MOST).contains(&limit) || wait > LONGEST_WAIT {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                format!(
                    "`limit` is within 1 to {MOST}, and `wait` within 0 to {LONGEST_WAIT} seconds"
                ),
            ));
        }
        Ok(Self {
            wait: Duration::from_secs(wait),
            limit: usize::try_from(limit).unwrap_or(1),
        })
    }

    /// Answers with what there is; if there is nothing, with what comes in time.
    pub(super) async fn answer(
        self,
        following: Following,
        shape: Shape,
    ) -> Result<Response, Problem> {
        let Following {
            snapshot,
            over,
            mut follower,
            ..
        } = following;
        let said = match snapshot {
            Some(snapshot) => of_snapshot(&snapshot, shape)?,
            None => None,
        };
        let mut events = Vec::new();
        // Who knows nothing yet is answered at once.
        if said.is_none() {
            let entries = follower.take(self.limit, self.wait).await?;
            for entry in &entries {
                if let Some(json) = shape.of(entry) {
                    events.push(raw(json)?);
                }
            }
        }
        let polled = Polled {
            snapshot: said,
            next: follower.position(),
            ended: over,
            events,
        };
        let body = serde_json::to_string(&polled).map_err(|error| Problem::bug(&error))?;
        let headers = [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        Ok((headers, body).into_response())
    }
}

fn of_snapshot(snapshot: &Snapshot, shape: Shape) -> Result<Option<Box<RawValue>>, Problem> {
    Ok(Some(match shape {
        Shape::Events => raw(serde_json::to_string(snapshot))?,
        Shape::Progress => raw(serde_json::to_string(&snapshot.progress()))?,
    }))
}

fn raw(json: Result<String, serde_json::Error>) -> Result<Box<RawValue>, Problem> {
    json.and_then(RawValue::from_string)
        .map_err(|error| Problem::bug(&error))
}
