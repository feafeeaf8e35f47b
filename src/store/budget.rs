//! The table `budget`: what a batch may spend, has reserved and has spent.
//!
//! A call reserves the most that it may take before it is made, so that the bill can't pass the cap; what it took in
//! the end replaces the reservation. A call in doubt keeps its reservation. The row can be rebuilt from the ledger.

use graphmill_jobs::{BatchId, OrganizationId};
use sqlx::{PgConnection, query};

use super::{
    StoreError,
    ledger::{Nanodollars, Paid, Spending},
};

/// What a batch may spend, in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// Money.
    pub cost: Option<Nanodollars>,
    /// Tokens, of prompts and answers.
    pub tokens: Option<i64>,
}

/// How a budget stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// What it may be at most.
    pub caps: Caps,
    /// What calls in work and calls in doubt may take at most.
    pub reserved: Spent,
    /// What answered calls took.
    pub spent: Spent,
    /// Calls that were answered and paid.
    pub calls: i64,
    /// Tokens of their prompts.
    pub prompt_tokens: i64,
    /// Of those, read from a cache.
    pub cached_tokens: i64,
    /// Tokens of their answers.
    pub completion_tokens: i64,
}

/// An amount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Money, as far as prices are known.
    pub cost: Nanodollars,
    /// Tokens.
    pub tokens: i64,
}

/// Opens a batch's budget, or changes the caps that are given of one that is open.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn set_budget(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    caps: Caps,
) -> Result<(), StoreError> {
    query!(
        "insert into budget (organization_id, batch_id, max_cost, max_tokens)
         values ($1, $2, $3::bigint::numeric / 1000000000, $4)
         on conflict (batch_id, organization_id) do update
         set max_cost = coalesce(excluded.max_cost, budget.max_cost),
             max_tokens = coalesce(excluded.max_tokens, budget.max_tokens)",
        organization.uuid(),
        batch.uuid(),
        caps.cost,
        caps.tokens,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How a batch's budget stands; `None` if it calls no model.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn budget(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<Option<Budget>, StoreError> {
    let row = query!(
        r#"select (max_cost * 1000000000)::bigint as max_cost, max_tokens,
                  (reserved_cost * 1000000000)::bigint as "reserved_cost!", reserved_tokens,
                  (spent_cost * 1000000000)::bigint as "spent_cost!", spent_tokens,
                  calls, prompt_tokens, cached_tokens, completion_tokens
           from budget where organization_id = $1 and batch_id = $2"#,
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Budget {
        caps: Caps {
            cost: row.max_cost,
            tokens: row.max_tokens,
        },
        reserved: Spent {
            cost: row.reserved_cost,
            tokens: row.reserved_tokens,
        },
        spent: Spent {
            cost: row.spent_cost,
            tokens: row.spent_tokens,
        },
        calls: row.calls,
        prompt_tokens: row.prompt_tokens,
        cached_tokens: row.cached_tokens,
        completion_tokens: row.completion_tokens,
    }))
}

/// Reserves what a call may take; `false` if that could pass a cap. A call of unknown price fits under no cap on
/// money.
pub(super) async fn reserve(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    most: Spending,
) -> Result<bool, StoreError> {
    let reserved = query!(
        "update budget
         set reserved_cost = reserved_cost + coalesce($3::bigint::numeric / 1000000000, 0),
             reserved_tokens = reserved_tokens + $4
         where organization_id = $1 and batch_id = $2
           and (max_cost is null
                or spent_cost + reserved_cost + $3::bigint::numeric / 1000000000 <= max_cost)
           and (max_tokens is null or spent_tokens + reserved_tokens + $4 <= max_tokens)",
        organization.uuid(),
        batch.uuid(),
        most.cost,
        most.tokens,
    )
    .execute(connection)
    .await?;
    Ok(reserved.rows_affected() == 1)
}

/// Puts what a call took in the place of what it had reserved; `None`: it took nothing.
pub(super) async fn spend(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    reserved: Spending,
    paid: Option<Paid>,
) -> Result<(), StoreError> {
    let calls = i64::from(paid.is_some());
    let paid = paid.unwrap_or_default();
    query!(
        "update budget
         set reserved_cost = greatest(reserved_cost - coalesce($3::bigint::numeric / 1000000000, 0), 0),
             reserved_tokens = greatest(reserved_tokens - $4, 0),
             spent_cost = spent_cost + coalesce($5::bigint::numeric / 1000000000, 0),
             spent_tokens = spent_tokens + $6 + $8,
             calls = calls + $9, prompt_tokens = prompt_tokens + $6,
             cached_tokens = cached_tokens + $7, completion_tokens = completion_tokens + $8
         where organization_id = $1 and batch_id = $2",
        organization.uuid(),
        batch.uuid(),
        reserved.cost,
        reserved.tokens,
        paid.cost,
        paid.prompt_tokens,
        paid.cached_tokens,
        paid.completion_tokens,
        calls,
    )
    .execute(connection)
    .await?;
    Ok(())
}
