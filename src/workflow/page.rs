//! Pages of long lists, by key and never by number: a page costs the same wherever it is, and nothing that comes or
//! goes between two pages makes one skip or repeat a row.
//!
//! Where a filter has no index of its own, a page looks at a bounded number of rows. It may then hold fewer than were
//! asked for, even none, and still have a next one.

use chrono::{DateTime, SecondsFormat, Utc};
use graphmill_jobs::{BatchId, LlmCallId, OrganizationId, WorkflowExecutionId};
use serde::Serialize;

use super::{
    export::hex,
    report::{self, BatchReport, ExecutionReport, dollars},
};
use crate::{
    flow::{BatchStateName, ExecutionStatus},
    store::{self, ListedCall, Looked, Store, StoreError},
};

/// Rows that a page looks at, at most. **Source:** so many are read in some 10 ms.
pub(super) const LOOKED_AT: i64 = 2000;

/// A part of a list.
#[derive(Debug, Clone)]
pub struct Page<T, K> {
    /// What is in it.
    pub items: Vec<T>,
    /// The last row that was looked at, if there may be more: the next page begins behind it.
    pub next: Option<K>,
}

impl<T, K> Page<T, K> {
    /// The same page of something else.
    pub fn map<U>(self, to: impl FnMut(T) -> U) -> Page<U, K> {
        Page {
            items: self.items.into_iter().map(to).collect(),
            next: self.next,
        }
    }
}

/// The first `most` of those that fit, and where the next page begins. `limit` is how many were looked at, if there
/// were so many.
pub(super) fn page<T, K>(looked: Vec<Looked<K, T>>, most: i64, limit: i64) -> Page<T, K> {
    let full = i64::try_from(looked.len()).is_ok_and(|count| count >= limit);
    let most = usize::try_from(most).unwrap_or(0);
    let mut items = Vec::new();
    let mut last = None;
    let mut rest = looked.into_iter();
    for row in rest.by_ref() {
        last = Some(row.key);
        if row.fits {
            items.push(row.id);
            if items.len() >= most {
                break;
            }
        }
    }
    let more = full || rest.next().is_some();
    Page {
        items,
        next: last.filter(|_| more),
    }
}

/// Reports of batches, newest first, before `before`; of those in one state, or of all.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn batch_page(
    store: &Store,
    organization: OrganizationId,
    state: Option<BatchStateName>,
    before: Option<BatchId>,
    most: i64,
) -> Result<Page<BatchReport, BatchId>, StoreError> {
    let mut read = store.app(organization).await?;
    let limit = if state.is_some() { LOOKED_AT } else { most + 1 };
    let state = state.map(BatchStateName::as_str);
    let looked = store::batches_looked_at(&mut read, organization, state, before, limit).await?;
    let found = page(looked, most, limit);
    let mut items = Vec::with_capacity(found.items.len());
    for id in found.items {
        items.extend(report::read(&mut read, organization, id, 0).await?);
    }
    Ok(Page {
        items,
        next: found.next,
    })
}

/// What is wanted of a batch's executions.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExecutionFilter<'a> {
    /// Those that stand there.
    pub status: Option<ExecutionStatus>,
    /// The one of the document with this id.
    pub document: Option<&'a str>,
}

/// Executions of a batch, by id, behind `after`; of a document that was retried only the newest.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn execution_page(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    filter: ExecutionFilter<'_>,
    after: Option<WorkflowExecutionId>,
    most: i64,
) -> Result<Page<ExecutionReport, WorkflowExecutionId>, StoreError> {
    let mut read = store.app(organization).await?;
    if let Some(document) = filter.document {
        let found = store::execution_of_document(&mut read, organization, batch, document).await?;
        let fits = found
            .filter(|found| filter.status.is_none_or(|status| found.status == status))
            .filter(|found| after.is_none_or(|after| found.id > after));
        return Ok(Page {
            items: found_items(fits),
            next: None,
        });
    }
    let limit = if filter.status.is_some() {
        LOOKED_AT
    } else {
        most + 1
    };
    let looked =
        store::executions_looked_at(&mut read, organization, batch, filter.status, after, limit)
            .await?;
    Ok(page(looked, most, limit).map(ExecutionReport::from))
}

fn found_items(found: Option<store::Execution>) -> Vec<ExecutionReport> {
    found.into_iter().map(ExecutionReport::from).collect()
}

/// A call of a model, as the ledger has it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct CallReport {
    /// Its id.
    #[schema(value_type = String)]
    pub id: LlmCallId,
    /// SHA-256 of the request, in hex.
    pub request_hash: String,
    /// Which try of its unit it was, from 1.
    pub attempt: i32,
    /// `answered`, `rejected`, `in_doubt` or `cached`; `intent` while it is being made.
    pub outcome: String,
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: Option<i64>,
    /// Of those, read from a cache.
    pub cached_tokens: Option<i64>,
    /// Tokens of the answer.
    pub completion_tokens: Option<i64>,
    /// US dollars, if the price is known.
    pub cost: Option<f64>,
    /// When it was begun.
    pub started_at: String,
    /// When it was over.
    pub ended_at: Option<String>,
    /// The stage that it was made for.
    pub stage: Option<String>,
    /// The unit that it was made for.
    pub unit: Option<i32>,
    /// The model.
    pub model: String,
    /// The prompt's name and version.
    pub prompt: String,
    /// What the server answered with.
    pub http_status: Option<i32>,
    /// Why there is no answer.
    pub error: Option<String>,
    /// Whose answer was used again.
    #[schema(value_type = Option<String>)]
    pub answered_by: Option<LlmCallId>,
}

impl From<ListedCall> for CallReport {
    fn from(call: ListedCall) -> Self {
        let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
        Self {
            id: call.id,
            request_hash: hex(&call.hash),
            attempt: call.attempt,
            outcome: call.outcome,
            prompt_tokens: call.prompt_tokens,
            cached_tokens: call.cached_tokens,
            completion_tokens: call.completion_tokens,
            cost: call.cost.map(dollars),
            started_at: time(call.started_at),
            ended_at: call.ended_at.map(time),
            stage: call.stage,
            unit: call.unit,
            model: call.model,
            prompt: call.prompt,
            http_status: call.http_status,
            error: call.error,
            answered_by: call.answer,
        }
    }
}

/// The ledger of a batch, in the order in which its calls were begun, behind `after`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn call_page(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    after: Option<LlmCallId>,
    most: i64,
) -> Result<Page<CallReport, LlmCallId>, StoreError> {
    let mut read = store.app(organization).await?;
    let calls = store::call_page(&mut read, organization, batch, after, most + 1).await?;
    let looked = calls.into_iter().map(|call| Looked {
        key: call.id,
        id: call,
        fits: true,
    });
    Ok(page(looked.collect(), most, most + 1).map(CallReport::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(fits: &[bool]) -> Vec<Looked<usize, usize>> {
        let rows = fits.iter().enumerate();
        rows.map(|(key, &fits)| Looked { key, id: key, fits })
            .collect()
    }

    #[test]
    fn a_page_ends_behind_the_last_row_that_was_looked_at() {
        let full = page(looked(&[true, false, true, true]), 2, 4);
        assert_eq!((full.items, full.next), (vec![0, 2], Some(2)));
        // All that was looked at is used, and there may be more behind it.
        let sparse = page(looked(&[false, true, false, false]), 2, 4);
        assert_eq!((sparse.items, sparse.next), (vec![1], Some(3)));
        let last = page(looked(&[true, true, false]), 2, 4);
        assert_eq!((last.items, last.next), (vec![0, 1], Some(1)));
        let end = page(looked(&[true, true]), 2, 4);
        assert_eq!((end.items, end.next), (vec![0, 1], None));
        let none = page(looked(&[]), 2, 4);
        assert_eq!((none.items, none.next), (vec![], None));
    }
}
