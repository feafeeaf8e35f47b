//! The budget of an organization: what all its batches may spend together. Changing it lets the batches go on that it
//! has paused, and so does a new month.

use graphmill_jobs::{BatchId, OrganizationId};
use serde::Serialize;

use super::{report::dollars, signal::signal_batch};
use crate::{
    flow::Signal,
    store::{self, BudgetChange, Caps, Period, Store, StoreError},
    workflow::SignalError,
};

/// How the organization's budget stands; without a cap, what was spent in all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BudgetReport {
    /// `total`, or `month`: what counts was called in this calendar month, in UTC.
    pub period: &'static str,
    /// US dollars; null is no cap.
    pub max_cost: Option<f64>,
    /// Tokens; null is no cap.
    pub max_tokens: Option<i64>,
    /// US dollars of answered calls, as far as prices are known.
    pub spent_cost: f64,
    /// Tokens of answered calls.
    pub spent_tokens: i64,
    /// US dollars that calls in work and calls in doubt may cost at most.
    pub reserved_cost: f64,
    /// Tokens that they may take at most.
    pub reserved_tokens: i64,
}

/// How the organization's budget stands.
///
/// # Errors
/// [`StoreError`]; trying again may help.
pub async fn organization_budget(
    store: &Store,
    organization: OrganizationId,
) -> Result<BudgetReport, StoreError> {
    let mut read = store.app(organization).await?;
    let budget = store::organization_budget(&mut read, organization).await?;
    let (period, caps, reserved, spent) = if let Some(budget) = budget {
        (budget.period, budget.caps, budget.reserved, budget.spent)
    } else {
        let (reserved, spent) = store::spent_in_all(&mut read, organization).await?;
        (Period::Total, Caps::default(), reserved, spent)
    };
    Ok(BudgetReport {
        period: period.as_str(),
        max_cost: caps.cost.map(dollars),
        max_tokens: caps.tokens,
        spent_cost: dollars(spent.cost),
        spent_tokens: spent.tokens,
        reserved_cost: dollars(reserved.cost),
        reserved_tokens: reserved.tokens,
    })
}

/// Changes the organization's budget, after taking its caps away if `clear`; and lets the batches go on that it has
/// paused. Returns those.
///
/// # Errors
/// [`SignalError`]; trying again may help, and does no harm.
pub async fn change_budget(
    store: &Store,
    organization: OrganizationId,
    clear: bool,
    change: BudgetChange,
) -> Result<Vec<BatchId>, SignalError> {
    let changes_caps = change.caps != Caps::default();
    if changes_caps || change.period.is_some() {
        let mut open = store.app(organization).await?;
        store::open_organization_budget(&mut open, organization).await?;
        open.commit().await.map_err(StoreError::from)?;
    }
    let mut write = store.app(organization).await?;
    if clear && !changes_caps {
        store::clear_organization_budget(&mut write, organization).await?;
    } else {
        store::change_organization_budget(&mut write, organization, clear, change).await?;
    }
    write.commit().await.map_err(StoreError::from)?;
    resume_all(store, organization).await
}

/// Sets the caps of a batch that are given. `false`: it calls no model, so that it has no budget.
///
/// # Errors
/// [`StoreError`]; trying again may help.
pub async fn raise_caps(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    caps: Caps,
) -> Result<bool, StoreError> {
    let mut transaction = store.app(organization).await?;
    if store::budget(&mut transaction, organization, batch)
        .await?
        .is_none()
    {
        return Ok(false);
    }
    store::set_budget(&mut transaction, organization, batch, caps).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Begins the month of an organization whose last one is over.
///
/// # Errors
/// [`SignalError`]; trying again may help, and does no harm.
pub async fn begin_month(store: &Store, organization: OrganizationId) -> Result<(), SignalError> {
    let mut write = store.app(organization).await?;
    let nothing = BudgetChange::default();
    store::change_organization_budget(&mut write, organization, false, nothing).await?;
    write.commit().await.map_err(StoreError::from)?;
    resume_all(store, organization).await?;
    Ok(())
}

/// Those for which there is still no room are paused again by their next call.
async fn resume_all(
    store: &Store,
    organization: OrganizationId,
) -> Result<Vec<BatchId>, SignalError> {
    let mut read = store.app(organization).await?;
    let paused = store::batches_paused_by_budget(&mut read, organization).await?;
    drop(read);
    for batch in &paused {
        signal_batch(store, organization, *batch, Signal::Resume).await?;
    }
    Ok(paused)
}

/// Counts every budget of the organization anew from the ledger, each in a transaction of its own. Returns how many
/// were wrong: none, unless somebody else wrote into the tables.
///
/// # Errors
/// [`StoreError`]; trying again may help, and does no harm.
pub async fn rebuild_budgets(
    store: &Store,
    organization: OrganizationId,
) -> Result<u64, StoreError> {
    let mut read = store.app(organization).await?;
    let batches = store::batches_with_budgets(&mut read, organization).await?;
    drop(read);
    let mut wrong = 0;
    for batch in batches {
        let mut write = store.app(organization).await?;
        wrong += u64::from(store::recount_budget(&mut write, organization, batch).await?);
        write.commit().await?;
    }
    let mut write = store.app(organization).await?;
    wrong += u64::from(store::recount_organization_budget(&mut write, organization).await?);
    write.commit().await?;
    Ok(wrong)
}
