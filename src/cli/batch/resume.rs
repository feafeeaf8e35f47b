//! `graphmill batch resume`, and the caps that a batch goes on with.

use graphmill_jobs::BatchId;

use crate::{
    cli::{error::CliError, session::Session},
    config::BudgetArgs,
    store::{self, Caps, StoreError},
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
    let organization = session.organization;
    let mut transaction = session.store.app(organization).await?;
    if store::budget(&mut transaction, organization, id)
        .await?
        .is_none()
    {
        return Err(CliError::Usage(format!(
            "the batch {id} calls no model: it has no budget"
        )));
    }
    store::set_budget(&mut transaction, organization, id, caps).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    Ok(())
}
