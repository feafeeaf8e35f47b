//! A submission whose documents come one by one, as lines or as files, and are written down as they come.
//!
//! Must not know how a document is cut out of the body. Invariants: a body that breaks off leaves nothing that nobody
//! will ever go on with; under a key, what is written down for sure is noted with its hash, so that only the same body
//! goes on.

use std::sync::Arc;

use axum::{
    extract::{Query, Request},
    http::StatusCode,
    response::Response,
};
use graphmill_jobs::{BatchId, OrganizationId};
use sha2::{Digest, Sha256};
use tracing::Instrument;

use super::{Ended, another_body, answer, begin, submit_problem, take};
use crate::{
    api::{
        State, asked,
        body::BatchOptions,
        intake::{self, Checked},
        problem::Problem,
        receive, trace,
        upload::{Kind, Source},
    },
    flow::Signal,
    store::{KnownKey, Written},
    workflow::{self, Once, Opened, Submission, SubmitError},
};

/// Takes a submission in.
pub(super) async fn submit(
    state: &State,
    organization: OrganizationId,
    request: Request,
    kind: Kind,
    key: Option<String>,
) -> Result<Response, Problem> {
    let shared = &state.0;
    let Ok(Query(options)) = Query::<BatchOptions>::try_from_uri(request.uri()) else {
        let refused = asked::unfit("query", "the options of a batch, each once");
        return Err(receive::refused(request, refused).await);
    };
    let open = options.open.unwrap_or(false);
    let query = request.uri().query().unwrap_or_default();
    let once = key.clone().map(|key| Once {
        key,
        request_hash: Sha256::digest(format!("POST /api/batches {kind:?} {query}")).into(),
    });
    let checked = intake::check(
        options.into(),
        &shared.extractors,
        shared.limits,
        &shared.ontology,
        &shared.webhooks,
        &shared.models,
        true,
    );
    let mut checked = match checked {
        Ok(checked) => checked,
        Err(refused) => return Err(receive::refused(request, refused).await),
    };
    checked.batch.traceparent = trace::parent(request.headers());
    let Ok(turn) = Arc::clone(&shared.streams).try_acquire_owned() else {
        return Err(receive::too_many());
    };
    begin(state, organization).await?;
    let source = Source::open(kind, request, shared.limits, shared.upload_bytes).await?;
    let work = {
        let state = state.clone();
        async move {
            let _turn = turn;
            let mut intake = Streamed {
                state,
                organization,
                checked,
                open,
                once,
                source,
                known: None,
                opened: None,
            };
            let ended = intake.run().await;
            match ended {
                Ok(ended) => Ok(ended),
                Err(problem) => Err(intake.given_up(problem).await),
            }
        }
    };
    let task = shared.submissions.spawn(work.in_current_span());
    let (ended, submitted) = task.await.map_err(|panic| Problem::bug(&panic))??;
    answer(state, organization, ended, submitted, open, key).await
}

/// A submission whose documents come one by one.
struct Streamed {
    state: State,
    organization: OrganizationId,
    checked: Checked,
    open: bool,
    once: Option<Once>,
    source: Source,
    /// What an earlier request with this key has left.
    known: Option<KnownKey>,
    /// The batch, once there is one.
    opened: Option<BatchId>,
}

impl Streamed {
    async fn run(&mut self) -> Result<(Ended, u64), Problem> {
        let store = self.state.0.store.clone();
        if let Some(once) = &self.once {
            self.known = workflow::known_key(&store, self.organization, &once.key).await?;
            let hash = once.request_hash;
            if self
                .known
                .as_ref()
                .is_some_and(|known| known.request_hash != hash)
            {
                self.source.discard().await;
                return Err(another_body());
            }
        }
        let again = self.known.is_some();
        if let Some(known) = self.known.take_if(|known| known.whole) {
            self.opened = Some(known.batch);
            return self.repeated(known).await.map(|ended| (ended, 0));
        }
        let mut submission = None;
        let mut submitted = 0;
        // So far the earlier request came for sure: what is there is looked at and not added.
        let mut mark = self
            .known
            .as_ref()
            .and_then(|known| Some((known.body_bytes, known.body_hash.clone()?)));
        while let Some(entry) = self.source.next_entry().await? {
            submitted += 1;
            if let Some((bytes, hash)) = &mark {
                let read = self.source.bytes();
                if read < *bytes {
                    continue;
                }
                if read > *bytes || self.source.hash() != hash.as_slice() {
                    self.source.discard().await;
                    return Err(another_body());
                }
                mark = None;
                continue;
            }
            let open = match submission.take() {
                Some(open) => open,
                None => self.begin().await?,
            };
            let open = submission.insert(open);
            take(open, entry)
                .await
                .map_err(|error| submit_problem(&error))?;
            if open.is_written() {
                self.note(false).await?;
            }
        }
        if mark.is_some() {
            return Err(another_body());
        }
        if submitted == 0 && !self.open {
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "`documents`: there are none: a batch that is not `open` has at least one",
            )
            .with("place", "documents"));
        }
        let mut submission = match submission {
            Some(submission) => submission,
            None => self.begin().await?,
        };
        let (batch, trace) = (submission.batch(), submission.trace());
        let written = async {
            submission.write().await?;
            Ok::<_, SubmitError>(submission)
        };
        let submission = written.await.map_err(|error| submit_problem(&error))?;
        // Before the seal: a request that comes after it must find that this was all.
        self.note(true).await?;
        match submission.finish(self.open).await {
            Ok(_) => {
                tracing::info!(batch.id = %batch, documents = submitted, "a batch was submitted");
            }
            // The other request with this key was faster.
            Err(SubmitError::Sealed) if again => {}
            Err(error) => return Err(submit_problem(&error)),
        }
        let ended = Ended {
            batch,
            again,
            answer: None,
            trace,
        };
        Ok((ended, submitted))
    }

    /// All of it was written down before: it must be the same, and is not written again.
    async fn repeated(&mut self, known: KnownKey) -> Result<Ended, Problem> {
        self.source.read_all().await?;
        let same = self.source.bytes() == known.body_bytes
            && known.body_hash.as_deref() == Some(self.source.hash().as_slice());
        if !same {
            return Err(another_body());
        }
        if known.answer.is_none() {
            let store = &self.state.0.store;
            let cut_off = workflow::go_on(store, self.organization, known.batch).await;
            if let Some(submission) = cut_off.map_err(|error| submit_problem(&error))? {
                let finished = submission.finish(self.open).await;
                finished.map_err(|error| submit_problem(&error))?;
            }
        }
        Ok(Ended {
            batch: known.batch,
            again: true,
            answer: known.answer,
            trace: None,
        })
    }

    /// The batch, opened now or by an earlier request with the key.
    async fn begin(&mut self) -> Result<Submission, Problem> {
        let (store, organization) = (&self.state.0.store, self.organization);
        let told = |error: SubmitError| submit_problem(&error);
        let known = match (&self.known, &self.once) {
            (Some(known), _) => known.batch,
            (None, None) => {
                let new = Submission::open(store, organization, &self.checked.batch).await;
                return self.tell(new.map_err(told)?).await;
            }
            (None, Some(once)) => {
                let batch = &self.checked.batch;
                let begun = workflow::open_once(store, organization, batch, once, None).await;
                match begun.map_err(told)? {
                    Opened::New(new) => return self.tell(*new).await,
                    Opened::Known(known) => known.batch,
                }
            }
        };
        self.opened = Some(known);
        let cut_off = workflow::go_on(store, organization, known).await;
        let cut_off = cut_off
            .map_err(told)?
            .ok_or_else(|| told(SubmitError::Sealed))?;
        self.tell(cut_off).await
    }

    async fn tell(&mut self, submission: Submission) -> Result<Submission, Problem> {
        self.opened = Some(submission.batch());
        if let Some(address) = &self.checked.notify {
            let told = submission.notify(address).await;
            told.map_err(|error| submit_problem(&error))?;
        }
        Ok(submission)
    }

    /// All that was read so far is written down.
    async fn note(&mut self, whole: bool) -> Result<(), Problem> {
        let Some(once) = &self.once else {
            return Ok(());
        };
        let hash = self.source.hash();
        let written = Written {
            bytes: self.source.bytes(),
            hash: &hash,
            whole,
        };
        let store = &self.state.0.store;
        workflow::note_written(store, self.organization, &once.key, written).await?;
        Ok(())
    }

    /// Without a key nobody can go on with it: what is there of it is cancelled.
    async fn given_up(&mut self, problem: Problem) -> Problem {
        let Some(batch) = self.opened else {
            return problem;
        };
        let problem = problem.with("batch_id", batch.to_string());
        if self.once.is_some() {
            tracing::warn!(batch.id = %batch, "a submission was cut off, and may be sent again");
            return problem;
        }
        let store = &self.state.0.store;
        match workflow::signal_batch(store, self.organization, batch, Signal::Cancel).await {
            Ok(_) => {
                tracing::warn!(batch.id = %batch, "a submission was cut off, and its batch cancelled");
                problem.with("cancelled", true)
            }
            Err(error) => {
                tracing::warn!(batch.id = %batch, %error, "a submission was cut off, and its batch is open");
                problem.with("cancel", format!("/api/batches/{batch}/cancel"))
            }
        }
    }
}
