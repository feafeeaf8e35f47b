//! The spans of what a worker does: one for each attempt at a stage, below the batch's submission, whoever works it.
//!
//! The place to hang below is read from the batch's row, once a process and batch, and only while traces are made.
//! Invariants: every stage of a document hangs in the same trace, on whatever workers and after whatever crashes; and a
//! trace has no more than a batch's first documents, so that none grows beyond what can be looked at. What comes later
//! has a trace for each document, derived from its execution, with a link to the submission.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use graphmill_jobs::BatchId;
use tokio::time::timeout;
use tracing::debug;

use super::{Engine, settle::End};
use crate::{
    flow::{Stage, Verdict},
    store::{self, BatchTrace, Lease, StoreError},
    telemetry::{self, Does, Span, TraceContext},
};

/// Documents of a batch whose stages hang below its submission. **Source:** of a document come ten spans and one for each
/// call of a model, and viewers of traces show some thousands.
const TOGETHER: u32 = 100;
/// Batches remembered at most; the memory of a worker stays flat.
const REMEMBERED: usize = 256;
/// How long Postgres may take to say where a span hangs; longer, and it is not made.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the work of batches hangs.
#[derive(Default)]
pub(super) struct Traces(Mutex<HashMap<(BatchId, i32), BatchTrace>>);

impl Traces {
    async fn of(&self, engine: &Engine, lease: &Lease) -> Result<Option<BatchTrace>, StoreError> {
        let key = (lease.batch, lease.generation);
        if let Some(known) = self.lock().get(&key) {
            return Ok(Some(known.clone()));
        }
        let organization = lease.fence.organization;
        let mut read = engine.store.app(organization).await?;
        let trace = store::batch_trace(&mut read, organization, lease.batch, TOGETHER).await?;
        read.rollback().await?;
        // Until there are so many documents, or no more of them can come, which are the first is not settled.
        if let Some(trace) = trace.as_ref().filter(|it| it.last.is_some() || it.sealed) {
            let mut known = self.lock();
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(key, trace.clone());
        }
        Ok(trace)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(BatchId, i32), BatchTrace>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an execution's spans hang below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root {
    /// The span of its batch's submission.
    Submission,
    /// A span of its own, which nobody has made yet; and what it came of.
    Own(Option<TraceContext>),
}

/// Where an execution's spans hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    parent: TraceContext,
    /// Where the parent came from.
    root: Root,
}

/// The place of `lease`'s execution; `None`: its trace is not made.
fn place(lease: &Lease, trace: &BatchTrace) -> Option<Place> {
    let submitted = trace.traceparent.as_deref().and_then(TraceContext::parse);
    let is_together = match (lease.document, trace.last) {
        (Some(document), Some(last)) => document <= last,
        (None, _) | (_, None) => true,
    };
    match submitted {
        Some(parent) if is_together => Some(Place {
            parent,
            root: Root::Submission,
        }),
        // Whoever submitted it wants no traces, of none of its documents.
        Some(submitted) if !submitted.is_sampled() => None,
        submitted => Some(Place {
            parent: telemetry::derived(lease.fence.execution.uuid().as_bytes())?,
            root: Root::Own(submitted),
        }),
    }
}

/// An attempt at a stage, as a span.
pub(super) struct Attempt {
    span: Span,
    place: Option<Place>,
}

impl Attempt {
    /// Begins the span of an attempt that was granted a lease.
    pub(super) async fn begin(engine: &Engine, stage: Stage, lease: &Lease) -> Self {
        let nothing = Self {
            span: Span::none(),
            place: None,
        };
        if !telemetry::traces() {
            return nothing;
        }
        let place = match timeout(PATIENCE, engine.traces.of(engine, lease)).await {
            Ok(Ok(trace)) => trace.and_then(|trace| place(lease, &trace)),
            Ok(Err(error)) => {
                debug!(%error, "an attempt is not traced");
                None
            }
            Err(_) => None,
        };
        let Some(place) = place else { return nothing };
        tracing::Span::current().record("trace_id", place.parent.trace_id());
        let mut span = Span::begin(stage.to_string(), Does::Process, Some(place.parent));
        span.set("graphmill.stage", stage.to_string());
        span.set("graphmill.attempt", i64::from(lease.attempt));
        span.set("graphmill.batch.id", lease.batch.to_string());
        span.set("graphmill.execution.id", lease.fence.execution.to_string());
        if let Some(document) = lease.document {
            span.set("graphmill.document.id", document.to_string());
        }
        if lease.suspect {
            span.set("graphmill.suspect", true);
        }
        Self {
            span,
            place: Some(place),
        }
    }

    /// The lease is granted that it has begun before.
    pub(super) fn goes_on(&mut self, lease: &Lease) {
        if let Some(place) = &self.place {
            tracing::Span::current().record("trace_id", place.parent.trace_id());
        }
        self.span.set("graphmill.attempt", i64::from(lease.attempt));
    }

    /// For what hangs below it.
    pub(super) fn context(&self) -> Option<TraceContext> {
        self.span.context()
    }

    /// Begins the settle.
    pub(super) fn settling(&self) -> Span {
        match self.context() {
            Some(context) => Span::begin("settle", Does::Work, Some(context)),
            None => Span::none(),
        }
    }

    /// Says how it ended without a settle.
    pub(super) fn ends_without(&mut self, outcome: &'static str) {
        self.span.set("graphmill.outcome", outcome);
    }

    /// Says how it ended.
    pub(super) fn ends(&mut self, end: &End) {
        let (outcome, failure) = match end {
            End::Stage { .. } | End::Document { .. } | End::Resolution { .. } => {
                ("completed", None)
            }
            End::Retry { failure, .. } => ("retry", Some(failure)),
            End::Failed { failure } => ("failed", Some(failure)),
            End::Stopped => ("cancelled", None),
        };
        self.span.set("graphmill.outcome", outcome);
        if let End::Stage {
            units,
            failed_units,
        } = end
        {
            let number = |of: usize| i64::try_from(of).unwrap_or(i64::MAX);
            self.span.set("graphmill.units", number(*units));
            self.span
                .set("graphmill.units.failed", number(*failed_units));
        }
        if let Some(failure) = failure {
            self.span.fail(failure.code.as_str());
        }
    }
}

/// Whether the execution is done with `end`.
pub(super) fn is_last(lease: &Lease, end: &End) -> bool {
    match end {
        End::Document { .. } | End::Resolution { .. } | End::Stopped => true,
        End::Stage { .. } | End::Retry { .. } => false,
        End::Failed { .. } => {
            lease.document.is_none()
                || lease.policy.on_failure(lease.round, lease.max_retries) == Verdict::Abandon
        }
    }
}

impl Attempt {
    /// The execution is done: a trace of its own gets the span that all others hang below.
    pub(super) fn execution_done(&self, lease: &Lease) {
        let Some(Place {
            parent,
            root: Root::Own(submitted),
        }) = self.place
        else {
            return;
        };
        let name = if lease.document.is_some() {
            "document"
        } else {
            "resolution"
        };
        let execution = lease.fence.execution;
        let said = vec![
            ("graphmill.batch.id", lease.batch.to_string()),
            ("graphmill.execution.id", execution.to_string()),
        ];
        telemetry::stand(parent, name, made_at(execution.uuid()), submitted, said);
    }
}

/// When an id was made, since 1970. **Source:** RFC 9562, UUID version 7.
fn made_at(id: uuid::Uuid) -> Duration {
    let milliseconds = id.as_u128() >> 80;
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use graphmill_jobs::{DocumentId, OrganizationId, WorkflowExecutionId};

    use super::*;
    use crate::store::Fence;

    fn lease(document: Option<DocumentId>) -> Lease {
        let fence = Fence {
            organization: OrganizationId::DEFAULT,
            execution: WorkflowExecutionId::generate(),
            epoch: 1,
        };
        Lease::first(fence, document)
    }

    #[test]
    fn the_first_documents_and_the_resolution_hang_below_the_submission() {
        let [first, last, later] = std::array::from_fn(|_| DocumentId::generate());
        let parent = TraceContext::new(7, 8, true).unwrap();
        let trace = BatchTrace {
            traceparent: Some(parent.to_string()),
            last: Some(last),
            sealed: true,
        };
        let together = Some(Place {
            parent,
            root: Root::Submission,
        });
        assert_eq!(place(&lease(Some(first)), &trace), together);
        assert_eq!(place(&lease(Some(last)), &trace), together);
        assert_eq!(place(&lease(None), &trace), together);
        // Traces of their own are derived, which takes somebody who makes them.
        assert_eq!(place(&lease(Some(later)), &trace), None);
        let few = BatchTrace {
            last: None,
            ..trace
        };
        assert_eq!(place(&lease(Some(later)), &few), together);
    }

    #[test]
    fn an_id_knows_when_it_was_made() {
        let id = uuid::Uuid::parse_str("017f22e2-79b0-7cc3-98c4-dc0c0c07398f").unwrap();
        assert_eq!(made_at(id), Duration::from_secs(1_645_557_742));
    }
}
