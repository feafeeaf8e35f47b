//! `graphmill batch resume`, and the caps that a batch goes on with.

use graphmill_jobs::{BatchId, OrganizationId};

use crate::{
    cli::{error::CliError, session::Session},
    config::BudgetArgs,
    store::Caps,
    workflow,
};

/// Sets the caps that are given.
pub(in crate::cli) async fn raise(
    session: &Session,
    id: BatchId,
    budget: &BudgetArgs,
) -> Result<(), CliError> {
    let caps = Caps {
        cost: budget.max_cost,
        tokens: budget.max_tokens,
    };
    if caps == Caps::default() {
        return Ok(());
    }
    if workflow::raise_caps(&session.store, OrganizationId::DEFAULT, id, caps).await? {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "the batch {id} calls no model: it has no budget"
    )))
}
