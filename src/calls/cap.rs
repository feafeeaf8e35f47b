//! What becomes of a call that does not fit under a cap: it waits for those that are being made, or the batch is paused
//! and says what to do.
//!
//! Knows budgets. Must not know the limits or what is sent. Invariant: a batch is paused only if nothing is in flight
//! that could give something back, and nothing has been given back or raised meanwhile.

use std::time::Duration;

use super::{Question, RESERVED, dollars, no_ledger};
use crate::{
    extractors::{CallError, WaitCause},
    store::{self, Caps, ORGANIZATION_BUDGET, Period, Spending, Spent, StoreError},
};

/// A budget, whosever it is.
#[derive(Debug, Clone, Copy)]
struct Standing {
    caps: Caps,
    reserved: Spent,
    spent: Spent,
}

/// What to do about a call that would have passed the cap of its batch, or of its organization.
pub(super) async fn reached(question: &Question, organization: bool, in_flight: i64) -> CallError {
    let found = match if organization {
        of_organization(question).await
    } else {
        of_batch(question)
            .await
            .map(|found| found.map(|found| (found, Period::Total)))
    } {
        Ok(found) => found,
        Err(error) => return no_ledger(&error),
    };
    let again = |reason: &str, wait| CallError::Wait {
        reason: reason.to_owned(),
        wait,
        cause: WaitCause::Budget,
    };
    let Some((standing, period)) = found else {
        return again("the budget is being opened or cleared", Duration::ZERO);
    };
    let next = question.reserved();
    if standing.has_room(next) {
        return again("there is room in the budget again", Duration::ZERO);
    }
    if in_flight > 0 {
        let whose = if organization {
            "organization"
        } else {
            "batch"
        };
        let reason = format!("what is left of the {whose}'s budget is reserved by calls in work");
        return again(&reason, RESERVED);
    }
    let model = &question.door.caller.model.name;
    let is_priceless = standing.caps.cost.is_some() && next.cost.is_none();
    let reason = match (organization, is_priceless) {
        (false, true) => {
            format!("the batch has a cap on its cost, and the price of {model} is not known")
        }
        (true, true) => format!(
            "{ORGANIZATION_BUDGET} has a cap on the cost, and the price of {model} is not known: graphmill budget set \
             --clear --max-tokens N, or begin the batch anew with a price in graphmill.toml"
        ),
        (false, false) => format!(
            "the budget is used up: {}; go on with: graphmill batch resume {} --max-cost N or --max-tokens N",
            standing.for_people(next),
            question.door.caller.batch
        ),
        (true, false) => format!(
            "{ORGANIZATION_BUDGET}{} is used up: {}; all its batches go on after: graphmill budget set --max-cost N \
             or --max-tokens N",
            match period {
                Period::Total => "",
                Period::Month => " of this month",
            },
            standing.for_people(next)
        ),
    };
    CallError::Pause { reason }
}

/// The batch's budget; one that has none gets one.
async fn of_batch(question: &Question) -> Result<Option<Standing>, StoreError> {
    let caller = &*question.door.caller;
    let (organization, batch) = (caller.organization, caller.batch);
    let mut transaction = question.begin().await?;
    let budget = store::budget(&mut transaction, organization, batch).await?;
    if budget.is_none() {
        store::set_budget(&mut transaction, organization, batch, Caps::default()).await?;
        transaction.commit().await?;
    }
    Ok(budget.map(|budget| Standing {
        caps: budget.caps,
        reserved: budget.reserved,
        spent: budget.spent,
    }))
}

async fn of_organization(question: &Question) -> Result<Option<(Standing, Period)>, StoreError> {
    let mut transaction = question.begin().await?;
    let organization = question.door.caller.organization;
    let budget = store::organization_budget(&mut transaction, organization).await?;
    Ok(budget.map(|budget| {
        let standing = Standing {
            caps: budget.caps,
            reserved: budget.reserved,
            spent: budget.spent,
        };
        (standing, budget.period)
    }))
}

impl Standing {
    fn cost_left(&self) -> Option<i64> {
        Some(self.caps.cost? - self.spent.cost - self.reserved.cost)
    }

    fn tokens_left(&self) -> Option<i64> {
        Some(self.caps.tokens? - self.spent.tokens - self.reserved.tokens)
    }

    fn has_room(&self, next: Spending) -> bool {
        self.cost_left()
            .is_none_or(|left| next.cost.is_some_and(|cost| cost <= left))
            && self.tokens_left().is_none_or(|left| next.tokens <= left)
    }

    /// How it stands, and why the next call does not fit.
    fn for_people(&self, next: Spending) -> String {
        let mut parts = Vec::new();
        if let (Some(cap), Some(left), Some(cost)) = (self.caps.cost, self.cost_left(), next.cost) {
            parts.push(format!(
                "${} spent and ${} reserved of ${}; ${} are left, and the next call may take up to ${}",
                dollars(self.spent.cost),
                dollars(self.reserved.cost),
                dollars(cap),
                dollars(left.max(0)),
                dollars(cost),
            ));
        }
        if let (Some(cap), Some(left)) = (self.caps.tokens, self.tokens_left()) {
            parts.push(format!(
                "{} tokens spent and {} reserved of {cap}; {} are left, and the next call may take up to {}",
                self.spent.tokens,
                self.reserved.tokens,
                left.max(0),
                next.tokens,
            ));
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_and_what_the_next_call_may_take() {
        let standing = Standing {
            caps: Caps {
                cost: Some(1_000_000_000),
                tokens: Some(1000),
            },
            reserved: Spent {
                cost: 100_000_000,
                tokens: 100,
            },
            spent: Spent {
                cost: 500_000_000,
                tokens: 500,
            },
        };
        let next = |cost, tokens| Spending { tokens, cost };
        assert!(standing.has_room(next(Some(400_000_000), 400)));
        assert!(!standing.has_room(next(Some(400_000_001), 400)));
        assert!(!standing.has_room(next(Some(1), 401)));
        assert!(!standing.has_room(next(None, 1)));
        assert_eq!(
            standing.for_people(next(Some(400_000_001), 300)),
            "$0.50 spent and $0.10 reserved of $1.00; $0.40 are left, and the next call may take up to $0.400000001; \
             500 tokens spent and 100 reserved of 1000; 400 are left, and the next call may take up to 300"
        );
    }
}
