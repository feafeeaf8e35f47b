//! The table `organization_budget`: what all batches of an organization may spend together, in all or in a calendar
//! month.
//!
//! There is a row only while there is a cap. Calls reserve in it and settle in it as they do in their batch's budget,
//! by the same statements (`budget.rs`). Invariant: **a call counts in the period in which it was begun**, whenever it
//! ends; so a month that begins takes nothing over from the one before but what the ledger says.

use graphmill_jobs::{BatchId, OrganizationId};
use sqlx::{PgConnection, query, query_scalar};

use super::{StoreError, budget::Caps, budget::Spent, parsed};

/// How the reason begins for which batches are paused by the budget of their organization: they are resumed together.
pub const ORGANIZATION_BUDGET: &str = "the organization's budget";

/// Over which time an organization's spending is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Period {
    /// Since ever.
    #[default]
    Total,
    /// A calendar month, in UTC, by the database's clock.
    Month,
}

impl Period {
    /// As it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Month => "month",
        }
    }
}

impl std::str::FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "total" => Ok(Self::Total),
            "month" => Ok(Self::Month),
            other => Err(format!("`{other}` is no period")),
        }
    }
}

/// How an organization's budget stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrganizationBudget {
    /// Over which time.
    pub period: Period,
    /// What it may be at most.
    pub caps: Caps,
    /// What calls in work and calls in doubt may take at most.
    pub reserved: Spent,
    /// What answered calls took.
    pub spent: Spent,
}

/// What is changed of an organization's budget.
#[derive(Debug, Clone, Copy, Default)]
pub struct BudgetChange {
    /// The caps that are given; the others stay.
    pub caps: Caps,
    /// Another period.
    pub period: Option<Period>,
}

/// How the organization's budget stands; `None` if it has no cap.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn organization_budget(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Option<OrganizationBudget>, StoreError> {
    let row = query!(
        r#"select period, (max_cost * 1000000000)::bigint as max_cost, max_tokens,
                  (reserved_cost * 1000000000)::bigint as "reserved_cost!", reserved_tokens,
                  (spent_cost * 1000000000)::bigint as "spent_cost!", spent_tokens
           from organization_budget where organization_id = $1"#,
        organization.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some(OrganizationBudget {
        period: parsed("a period", &row.period)?,
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
    }))
}

/// What all batches of the organization have reserved and spent since ever, by their budgets.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn spent_in_all(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<(Spent, Spent), StoreError> {
    let row = query!(
        r#"select coalesce(sum(reserved_cost) * 1000000000, 0)::bigint as "reserved_cost!",
                  coalesce(sum(reserved_tokens), 0)::bigint as "reserved_tokens!",
                  coalesce(sum(spent_cost) * 1000000000, 0)::bigint as "spent_cost!",
                  coalesce(sum(spent_tokens), 0)::bigint as "spent_tokens!"
           from budget where organization_id = $1"#,
        organization.uuid(),
    )
    .fetch_one(connection)
    .await?;
    let reserved = Spent {
        cost: row.reserved_cost,
        tokens: row.reserved_tokens,
    };
    let spent = Spent {
        cost: row.spent_cost,
        tokens: row.spent_tokens,
    };
    Ok((reserved, spent))
}

/// Has a row for the organization, from whose commit on every call counts in it. Its transaction is short, and its
/// own: what was called until then is to be counted in another one ([`change_organization_budget`]).
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn open_organization_budget(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<(), StoreError> {
    // A reservation that began before there was a row does not see the row: it is waited for, and counted later as a
    // part of the ledger. One that comes now waits for the commit, and sees it.
    query!("lock table budget in share row exclusive mode")
        .execute(&mut *connection)
        .await?;
    query!(
        "insert into organization_budget (organization_id) values ($1) on conflict do nothing",
        organization.uuid(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Changes the caps that are given (the others go, if `clear`) and the period, and counts what counts in it anew.
/// Nothing, if there is no row.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn change_organization_budget(
    connection: &mut PgConnection,
    organization: OrganizationId,
    clear: bool,
    change: BudgetChange,
) -> Result<(), StoreError> {
    let changed = query!(
        "update organization_budget
         set max_cost = coalesce($2::bigint::numeric / 1000000000, case when not $5 then max_cost end),
             max_tokens = coalesce($3, case when not $5 then max_tokens end), period = coalesce($4, period),
             counted_from = case coalesce($4, period) when 'month' then date_trunc('month', now(), 'UTC')
                                                      else '-infinity' end
         where organization_id = $1",
        organization.uuid(),
        change.caps.cost,
        change.caps.tokens,
        change.period.map(Period::as_str),
        clear,
    )
    .execute(&mut *connection)
    .await?;
    if changed.rows_affected() == 1 {
        recount(connection, organization).await?;
    }
    Ok(())
}

/// Takes the organization's caps away, and all counting.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn clear_organization_budget(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<(), StoreError> {
    query!(
        "delete from organization_budget where organization_id = $1",
        organization.uuid(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Sets the sums of a row that the caller's transaction has locked. Calls that are being reserved or settled wait for
/// it and then add themselves; all others are committed and seen, since this is a statement after the lock.
async fn recount(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<bool, StoreError> {
    let by_batches = query!(
        "update organization_budget o
         set reserved_cost = s.reserved_cost, reserved_tokens = s.reserved_tokens,
             spent_cost = s.spent_cost, spent_tokens = s.spent_tokens
         from (select coalesce(sum(reserved_cost), 0) as reserved_cost,
                      coalesce(sum(reserved_tokens), 0) as reserved_tokens,
                      coalesce(sum(spent_cost), 0) as spent_cost, coalesce(sum(spent_tokens), 0) as spent_tokens
               from budget where organization_id = $1) s
         where o.organization_id = $1 and o.period = 'total'
           and (o.reserved_cost, o.reserved_tokens, o.spent_cost, o.spent_tokens)
               is distinct from (s.reserved_cost, s.reserved_tokens, s.spent_cost, s.spent_tokens)",
        organization.uuid(),
    )
    .execute(&mut *connection)
    .await?;
    // A batch that had ended before the period began has no call in it.
    let by_calls = query!(
        "update organization_budget o
         set reserved_cost = s.reserved_cost, reserved_tokens = s.reserved_tokens,
             spent_cost = s.spent_cost, spent_tokens = s.spent_tokens
         from (select coalesce(sum(c.reserved_cost) filter (where c.response is null), 0) as reserved_cost,
                      coalesce(sum(c.reserved_tokens) filter (where c.response is null), 0) as reserved_tokens,
                      coalesce(sum(c.cost) filter (where c.response is not null), 0) as spent_cost,
                      coalesce(sum(c.prompt_tokens + c.completion_tokens)
                               filter (where c.response is not null), 0) as spent_tokens
               from organization_budget p
               join batch b on b.organization_id = p.organization_id
                           and (b.ended_at is null or b.ended_at >= p.counted_from)
               join llm_call c on c.organization_id = b.organization_id and c.batch_id = b.id
                              and c.started_at >= p.counted_from
                              and c.outcome in ('intent', 'answered', 'in_doubt')
               where p.organization_id = $1 and p.period = 'month') s
         where o.organization_id = $1 and o.period = 'month'
           and (o.reserved_cost, o.reserved_tokens, o.spent_cost, o.spent_tokens)
               is distinct from (s.reserved_cost, s.reserved_tokens, s.spent_cost, s.spent_tokens)",
        organization.uuid(),
    )
    .execute(connection)
    .await?;
    Ok(by_batches.rows_affected() + by_calls.rows_affected() > 0)
}

/// Counts the organization's budget anew; whether it was wrong.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn recount_organization_budget(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<bool, StoreError> {
    query!(
        "select from organization_budget where organization_id = $1 for update",
        organization.uuid(),
    )
    .fetch_optional(&mut *connection)
    .await?;
    recount(connection, organization).await
}

/// The organizations whose month is over.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn months_over(connection: &mut PgConnection) -> Result<Vec<OrganizationId>, StoreError> {
    let organizations = query_scalar!(
        "select organization_id from organization_budget
         where period = 'month' and counted_from < date_trunc('month', now(), 'UTC')"
    )
    .fetch_all(connection)
    .await?;
    Ok(organizations.into_iter().map(Into::into).collect())
}

/// The batches that are paused by the organization's budget.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn batches_paused_by_budget(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Vec<BatchId>, StoreError> {
    let batches = query_scalar!(
        "select id from batch
         where organization_id = $1 and paused_at is not null and ended_at is null and stopping is null
           and starts_with(pause_reason, $2)
         order by id",
        organization.uuid(),
        ORGANIZATION_BUDGET,
    )
    .fetch_all(connection)
    .await?;
    Ok(batches.into_iter().map(Into::into).collect())
}
