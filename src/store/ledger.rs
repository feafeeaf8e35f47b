//! The table `llm_call`, the ledger: a row for every call of a model, written before the call is made.
//!
//! The row of an open call claims its request in the organization: nobody else makes the same call while the claim
//! lives. Invariants: an answer is written whoever holds what by then, and a request that has one is never sent again;
//! what was reserved in the budgets is given back exactly once, when it is known what the call took.

use std::time::Duration;

use chrono::{DateTime, Utc};
use graphmill_jobs::{BatchId, LlmCallId, OrganizationId, WorkflowExecutionId};
use sqlx::{PgConnection, query, query_scalar};

use super::{
    StoreError,
    budget::{self, Reserved},
};

/// Money, in billionths of a US dollar: prices a token are whole numbers of those, or nearly.
pub type Nanodollars = i64;

/// What a call is about, as the ledger has it.
#[derive(Debug, Clone)]
pub struct CallRow<'a> {
    /// Its id.
    pub id: LlmCallId,
    /// The batch that pays.
    pub batch: BatchId,
    /// For which document's pass.
    pub execution: WorkflowExecutionId,
    /// The stage's name.
    pub stage: &'a str,
    /// The unit's number in the stage.
    pub unit: i32,
    /// `chat` or `embeddings`.
    pub operation: &'a str,
    /// Who is called.
    pub provider: &'a str,
    /// Its base address.
    pub endpoint: &'a str,
    /// The model's name.
    pub model: &'a str,
    /// The prompt's name and version.
    pub prompt: &'a str,
    /// SHA-256 of the request.
    pub hash: &'a [u8; 32],
    /// The how-manyeth answer is wanted.
    pub sample: u32,
    /// What it may take at most.
    pub reserved: Spending,
    /// How long the claim lives without being renewed.
    pub lasts: Duration,
}

/// What a call takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spending {
    /// Tokens, of prompt and answer.
    pub tokens: i64,
    /// Money; `None` if the price is not known.
    pub cost: Option<Nanodollars>,
}

/// What is known of a request.
#[derive(Debug)]
pub enum Known {
    /// Nothing: it may be asked.
    Nothing,
    /// Somebody asks right now.
    Asked,
    /// It was answered.
    Answered(LlmCallId, Vec<u8>),
}

/// What came of claiming a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// The row is written and the budget reserved: the call may be made.
    Made,
    /// Somebody else was faster: look again.
    Taken,
    /// A budget does not allow it, now that so many other calls hold reservations in it.
    OverBudget {
        /// The organization's; else the batch's.
        organization: bool,
        /// Calls that are being made and count in it.
        in_flight: i64,
    },
}

/// What an answer took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Paid {
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: i64,
    /// Of those, read from a cache.
    pub cached_tokens: i64,
    /// Tokens of the answer.
    pub completion_tokens: i64,
    /// What that costs; `None` if the price is not known.
    pub cost: Option<Nanodollars>,
}

/// A row of the ledger, as it is listed.
#[derive(Debug, Clone)]
pub struct ListedCall {
    /// Its id.
    pub id: LlmCallId,
    /// SHA-256 of the request.
    pub hash: Vec<u8>,
    /// The how-manyeth call for the same request.
    pub attempt: i32,
    /// `intent`, `answered`, `rejected`, `in_doubt` or `cached`.
    pub outcome: String,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<i64>,
    /// Of those, read from a cache.
    pub cached_tokens: Option<i64>,
    /// Tokens of the answer.
    pub completion_tokens: Option<i64>,
    /// What it cost.
    pub cost: Option<Nanodollars>,
    /// When it was begun.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// The stage's name.
    pub stage: Option<String>,
    /// The unit's number in the stage.
    pub unit: Option<i32>,
    /// The model's name.
    pub model: String,
    /// The prompt's name and version.
    pub prompt: String,
    /// The server's status.
    pub http_status: Option<i32>,
    /// Why there is no answer.
    pub error: Option<String>,
    /// Whose answer was used again.
    pub answer: Option<LlmCallId>,
}

/// Looks a request up.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn known_answer(
    connection: &mut PgConnection,
    organization: OrganizationId,
    hash: &[u8; 32],
) -> Result<Known, StoreError> {
    // The first answer is the one that counts, whatever others may have come since.
    let row = query!(
        r#"select id, response, (outcome = 'intent' and claim_until > now()) as "alive!"
           from llm_call
           where organization_id = $1 and request_hash = $2
             and (response is not null and response_pruned_at is null or outcome = 'intent')
           order by response is null, ended_at, id
           limit 1"#,
        organization.uuid(),
        hash,
    )
    .fetch_optional(connection)
    .await?;
    Ok(match row {
        Some(row) => match row.response {
            Some(response) => Known::Answered(row.id.into(), response),
            None if row.alive => Known::Asked,
            None => Known::Nothing,
        },
        None => Known::Nothing,
    })
}

/// Notes that the answer of `of` was used again.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn note_replay(
    connection: &mut PgConnection,
    organization: OrganizationId,
    call: &CallRow<'_>,
    of: LlmCallId,
) -> Result<(), StoreError> {
    query!(
        "insert into llm_call (id, organization_id, batch_id, workflow_execution_id, stage, unit, operation,
                               provider, endpoint, model, prompt, request_hash, sample, attempt, outcome,
                               answer_id, prompt_tokens, cached_tokens, completion_tokens, cost, ended_at)
         select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, attempt, 'cached',
                id, 0, 0, 0, 0, now()
         from llm_call where organization_id = $2 and id = $14",
        call.id.uuid(),
        organization.uuid(),
        call.batch.uuid(),
        call.execution.uuid(),
        call.stage,
        call.unit,
        call.operation,
        call.provider,
        call.endpoint,
        call.model,
        call.prompt,
        call.hash,
        i32::try_from(call.sample).unwrap_or(i32::MAX),
        of.uuid(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Claims a request and reserves what it may take, for the rest of the caller's transaction. What an earlier claim
/// left open when its maker went silent is in doubt from then on, and keeps its reservation.
///
/// Unless the result is [`Claimed::Made`] the caller rolls the transaction back.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn claim_call(
    connection: &mut PgConnection,
    organization: OrganizationId,
    call: &CallRow<'_>,
) -> Result<Claimed, StoreError> {
    if !insert_claim(&mut *connection, organization, call).await? {
        // Somebody's claim is in the way; if it is over, his call is in doubt.
        let silent = query!(
            "update llm_call set outcome = 'in_doubt', ended_at = now(),
                    error = 'whoever made the call went silent'
             where organization_id = $1 and request_hash = $2 and outcome = 'intent' and claim_until <= now()",
            organization.uuid(),
            call.hash,
        )
        .execute(&mut *connection)
        .await?;
        if silent.rows_affected() == 0
            || !insert_claim(&mut *connection, organization, call).await?
        {
            return Ok(Claimed::Taken);
        }
    }
    // Last, since other calls wait for the budgets' rows. A statement of its own: it sees an answer that was committed
    // while the row above was being written.
    let reserved = budget::reserve(
        &mut *connection,
        organization,
        call.batch,
        call.hash,
        call.reserved,
    );
    let is_organization = match reserved.await? {
        Reserved::Yes => return Ok(Claimed::Made),
        Reserved::Answered => return Ok(Claimed::Taken),
        Reserved::PastBatch => false,
        Reserved::PastOrganization => true,
    };
    let in_flight = query_scalar!(
        r#"select count(*) as "in_flight!" from llm_call
           where organization_id = $1 and (batch_id = $2 or $4) and outcome = 'intent' and claim_until > now()
             and id <> $3"#,
        organization.uuid(),
        call.batch.uuid(),
        call.id.uuid(),
        is_organization,
    )
    .fetch_one(connection)
    .await?;
    Ok(Claimed::OverBudget {
        organization: is_organization,
        in_flight,
    })
}

/// Writes the row of a call; `false`: somebody claims its request.
async fn insert_claim(
    connection: &mut PgConnection,
    organization: OrganizationId,
    call: &CallRow<'_>,
) -> Result<bool, StoreError> {
    let inserted = query!(
        "insert into llm_call (id, organization_id, batch_id, workflow_execution_id, stage, unit, operation,
                               provider, endpoint, model, prompt, request_hash, sample, attempt, outcome,
                               reserved_tokens, reserved_cost, claim_until)
         select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
                1 + count(*) filter (where outcome <> 'cached'), 'intent', $14,
                $15::bigint::numeric / 1000000000, now() + make_interval(secs => $16)
         from llm_call where organization_id = $2 and request_hash = $12
         on conflict (request_hash, organization_id) where outcome = 'intent' do nothing",
        call.id.uuid(),
        organization.uuid(),
        call.batch.uuid(),
        call.execution.uuid(),
        call.stage,
        call.unit,
        call.operation,
        call.provider,
        call.endpoint,
        call.model,
        call.prompt,
        call.hash,
        i32::try_from(call.sample).unwrap_or(i32::MAX),
        call.reserved.tokens,
        call.reserved.cost,
        call.lasts.as_secs_f64(),
    )
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Keeps the claim of a call that is being made alive.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn renew_claim(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: LlmCallId,
    lasts: Duration,
) -> Result<(), StoreError> {
    query!(
        "update llm_call set claim_until = now() + make_interval(secs => $3)
         where organization_id = $1 and id = $2 and outcome = 'intent'",
        organization.uuid(),
        id.uuid(),
        lasts.as_secs_f64(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Files an answer, whoever has taken the request up since: it is paid. One that was given up as in doubt, and asked
/// again, stays in doubt: both may have been billed. Safe to repeat.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn file_answer(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: LlmCallId,
    status: u16,
    response: &[u8],
    paid: Paid,
) -> Result<(), StoreError> {
    // One statement, in the order in which the rows are to be locked: each part needs the one before it.
    query!(
        "with filed as (
             update llm_call
             set outcome = case outcome when 'intent' then 'answered' else outcome end,
                 late = outcome <> 'intent', response = $3, http_status = $4, error = null,
                 prompt_tokens = $5, cached_tokens = $6, completion_tokens = $7,
                 cost = $8::bigint::numeric / 1000000000, ended_at = now()
             where organization_id = $1 and id = $2 and response is null
               and outcome in ('intent', 'in_doubt')
             returning batch_id, coalesce(reserved_tokens, 0) as reserved_tokens,
                       coalesce(reserved_cost, 0) as reserved_cost, started_at
         ), mine as (
             update budget b
             set reserved_cost = greatest(b.reserved_cost - f.reserved_cost, 0),
                 reserved_tokens = greatest(b.reserved_tokens - f.reserved_tokens, 0),
                 spent_cost = b.spent_cost + coalesce($8::bigint::numeric / 1000000000, 0),
                 spent_tokens = b.spent_tokens + $5 + $7,
                 calls = b.calls + 1, prompt_tokens = b.prompt_tokens + $5,
                 cached_tokens = b.cached_tokens + $6, completion_tokens = b.completion_tokens + $7
             from filed f
             where b.organization_id = $1 and b.batch_id = f.batch_id
             returning b.batch_id
         )
         update organization_budget o
         set reserved_cost = greatest(o.reserved_cost - f.reserved_cost, 0),
             reserved_tokens = greatest(o.reserved_tokens - f.reserved_tokens, 0),
             spent_cost = o.spent_cost + coalesce($8::bigint::numeric / 1000000000, 0),
             spent_tokens = o.spent_tokens + $5 + $7
         -- `mine` is counted, so that the organization's row is taken after the batch's, and also if that is gone.
         from filed f cross join (select count(*) from mine) m
         where o.organization_id = $1 and o.counted_from <= f.started_at",
        organization.uuid(),
        id.uuid(),
        response,
        i32::from(status),
        paid.prompt_tokens,
        paid.cached_tokens,
        paid.completion_tokens,
        paid.cost,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// The server refused it, or never received it: nothing is owed.
    Rejected,
    /// It may have been billed: its reservation stays.
    InDoubt,
}

/// Files that a call has no answer. Safe to repeat.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn file_unanswered(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: LlmCallId,
    end: Unanswered,
    status: Option<u16>,
    error: &str,
) -> Result<(), StoreError> {
    let outcome = match end {
        Unanswered::Rejected => "rejected",
        Unanswered::InDoubt => "in_doubt",
    };
    let filed = query!(
        r#"update llm_call set outcome = $3, http_status = $4, error = $5, ended_at = now()
           where organization_id = $1 and id = $2 and response is null
             and outcome in ('intent', 'in_doubt') and outcome <> $3
           returning batch_id as "batch!", coalesce(reserved_tokens, 0) as "reserved_tokens!",
                     (reserved_cost * 1000000000)::bigint as reserved_cost, started_at"#,
        organization.uuid(),
        id.uuid(),
        outcome,
        status.map(i32::from),
        error,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let (Some(filed), Unanswered::Rejected) = (filed, end) else {
        return Ok(());
    };
    let call = budget::Settled {
        batch: filed.batch.into(),
        reserved: Spending {
            tokens: filed.reserved_tokens,
            cost: filed.reserved_cost,
        },
        begun: filed.started_at,
    };
    budget::give_back(connection, organization, call).await
}

/// The calls of a batch after `after`, in the order in which they were begun, `limit` at most. An open call whose
/// maker has gone silent is listed as in doubt.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn call_page(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    after: Option<LlmCallId>,
    limit: i64,
) -> Result<Vec<ListedCall>, StoreError> {
    let rows = query!(
        r#"select id, request_hash, attempt,
                  case when outcome = 'intent' and claim_until <= now() then 'in_doubt' else outcome end as "outcome!",
                  prompt_tokens, cached_tokens, completion_tokens,
                  (cost * 1000000000)::bigint as cost, started_at, ended_at, stage, unit, model, prompt,
                  http_status, error, answer_id
           from llm_call
           where organization_id = $1 and batch_id = $2 and id > $3
           order by id limit $4"#,
        organization.uuid(),
        batch.uuid(),
        after.map_or_else(uuid::Uuid::nil, LlmCallId::uuid),
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ListedCall {
            id: row.id.into(),
            hash: row.request_hash,
            attempt: row.attempt,
            outcome: row.outcome,
            prompt_tokens: row.prompt_tokens,
            cached_tokens: row.cached_tokens,
            completion_tokens: row.completion_tokens,
            cost: row.cost,
            started_at: row.started_at,
            ended_at: row.ended_at,
            stage: row.stage,
            unit: row.unit,
            model: row.model,
            prompt: row.prompt,
            http_status: row.http_status,
            error: row.error,
            answer: row.answer_id.map(Into::into),
        })
        .collect())
}

/// Calls of a batch that were answered from the ledger.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn replays(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<u64, StoreError> {
    let replays = query_scalar!(
        r#"select count(*) as "replays!" from llm_call
           where organization_id = $1 and batch_id = $2 and outcome = 'cached'"#,
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_one(connection)
    .await?;
    Ok(replays.unsigned_abs())
}

/// What is known of an endpoint and a model.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn known_of_endpoint(
    connection: &mut PgConnection,
    organization: OrganizationId,
    endpoint: &str,
    model: &str,
) -> Result<Option<String>, StoreError> {
    Ok(query_scalar!(
        "select known from model_endpoint where organization_id = $1 and endpoint = $2 and model = $3",
        organization.uuid(),
        endpoint,
        model,
    )
    .fetch_optional(connection)
    .await?)
}

/// Writes down what is known of an endpoint and a model.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn know_endpoint(
    connection: &mut PgConnection,
    organization: OrganizationId,
    endpoint: &str,
    model: &str,
    known: &str,
) -> Result<(), StoreError> {
    query!(
        "insert into model_endpoint (organization_id, endpoint, model, known) values ($1, $2, $3, $4)
         on conflict (endpoint, model, organization_id)
         do update set known = excluded.known, updated_at = now()",
        organization.uuid(),
        endpoint,
        model,
        known,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes what a model said for a unit and was not published, in place of what was noted before.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn note_dropped(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
    stage: &str,
    unit: i32,
    dropped: &[(&str, u32)],
) -> Result<(), StoreError> {
    query!(
        "delete from dropped_item
         where organization_id = $1 and workflow_execution_id = $2 and stage = $3 and unit = $4",
        organization.uuid(),
        execution.uuid(),
        stage,
        unit,
    )
    .execute(&mut *connection)
    .await?;
    let (reasons, counts): (Vec<String>, Vec<i32>) = dropped
        .iter()
        .map(|&(reason, count)| (reason.to_owned(), i32::try_from(count).unwrap_or(i32::MAX)))
        .unzip();
    query!(
        "insert into dropped_item (organization_id, workflow_execution_id, stage, unit, reason, count)
         select $1, $2, $3, $4, reason, count from unnest($5::text[], $6::integer[]) as d (reason, count)
         where count > 0
         on conflict do nothing",
        organization.uuid(),
        execution.uuid(),
        stage,
        unit,
        &reasons,
        &counts,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What models said for a batch and was not published: how often, by stage and reason.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn dropped_counts(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<Vec<(String, String, i64)>, StoreError> {
    let rows = query!(
        r#"select d.stage, d.reason, sum(d.count) as "count!" from dropped_item d
           join workflow_execution e
             on e.organization_id = d.organization_id and e.id = d.workflow_execution_id
           where e.organization_id = $1 and e.batch_id = $2 and e.withdrawn_at is null
           group by d.stage, d.reason order by d.stage, d.reason"#,
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.stage, row.reason, row.count))
        .collect())
}
