//! What a batch's calls of its model cost, and what they may cost: prices and caps, as they are sent.
//!
//! Pure. Invariant: a cap on costs is taken only with a price: without one nobody could keep to it.

use std::collections::BTreeMap;

use axum::http::StatusCode;

use super::problem::Problem;
use crate::{
    pipeline::{ModelChoice, Price},
    store::Caps,
    workflow::is_name,
};

/// What the server's own configuration says of models.
#[derive(Debug, Clone, Default)]
pub struct ModelDefaults {
    /// What they cost, by name.
    pub prices: BTreeMap<String, Price>,
    /// What a batch may spend if nothing else is said.
    pub caps: Caps,
}

/// What was sent of a model; prices and `max_cost` in US dollars, the former a million tokens.
#[derive(Debug, Default)]
pub(super) struct Spending {
    pub(super) model: Option<String>,
    pub(super) input: Option<f64>,
    pub(super) cached_input: Option<f64>,
    pub(super) output: Option<f64>,
    pub(super) max_cost: Option<f64>,
    pub(super) max_tokens: Option<u64>,
}

impl Spending {
    /// The model that is called, what it costs, and what its calls may; none, if none is named.
    ///
    /// # Errors
    /// 422 that names the field; trying the same again does not help.
    pub(super) fn check(
        self,
        defaults: &ModelDefaults,
    ) -> Result<Option<(ModelChoice, Caps)>, Problem> {
        let price = self.price()?;
        let caps = caps(self.max_cost, self.max_tokens)?;
        let Some(name) = self.model else {
            let given = [
                ("price_input", price.is_some()),
                ("max_cost", caps.cost.is_some()),
                ("max_tokens", caps.tokens.is_some()),
            ];
            return match given.into_iter().find(|(_, given)| *given) {
                Some((field, _)) => Err(unfit(field, "name the `model` that it is for")),
                None => Ok(None),
            };
        };
        if !is_name(&name) {
            return Err(unfit(
                "model",
                "a model's name has 1 to 200 characters, none of them a control character",
            ));
        }
        let choice = ModelChoice {
            price: price.or_else(|| defaults.prices.get(&name).copied()),
            name,
            fresh: false,
        };
        let caps = Caps {
            cost: caps.cost.or(defaults.caps.cost),
            tokens: caps.tokens.or(defaults.caps.tokens),
        };
        if caps.cost.is_some() && choice.price.is_none() {
            return Err(unfit(
                "max_cost",
                "what this model costs is not known here: send `price_input` and `price_output` (US dollars a \
                 million tokens), or use `max_tokens`",
            ));
        }
        Ok(Some((choice, caps)))
    }

    fn price(&self) -> Result<Option<Price>, Problem> {
        let (input, output) = match (self.input, self.output) {
            (Some(input), Some(output)) => (input, output),
            (None, None) if self.cached_input.is_none() => return Ok(None),
            (None, _) => return Err(unfit("price_input", "a price has it")),
            (Some(_), None) => return Err(unfit("price_output", "a price has it")),
        };
        let price = Price::of_dollars(input, self.cached_input, output);
        price.map(Some).ok_or_else(|| {
            let why = "prices are US dollars a million tokens, 0 to 1,000,000,000";
            unfit("price_input", why)
        })
    }
}

/// What calls may cost in all, in US dollars, and how many tokens they may take.
///
/// # Errors
/// 422 that names the field.
pub(super) fn caps(cost: Option<f64>, tokens: Option<u64>) -> Result<Caps, Problem> {
    let cost = cost.map(|dollars| {
        if (0.0..=9e6).contains(&dollars) {
            #[expect(clippy::cast_possible_truncation, reason = "nine million dollars fit")]
            Ok((dollars * 1e9).round() as i64)
        } else {
            Err(unfit("max_cost", "US dollars, 0 to 9,000,000"))
        }
    });
    let tokens = tokens
        .map(|tokens| i64::try_from(tokens).map_err(|_| unfit("max_tokens", "a number of tokens")));
    Ok(Caps {
        cost: cost.transpose()?,
        tokens: tokens.transpose()?,
    })
}

fn unfit(field: &str, why: &str) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        format!("`{field}`: {why}"),
    )
    .with("place", field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(model: Option<&str>) -> Spending {
        Spending {
            model: model.map(str::to_owned),
            ..Spending::default()
        }
    }

    #[test]
    fn a_cap_on_costs_needs_a_price() {
        let known = Price::of_dollars(1.0, None, 2.0);
        let mut defaults = ModelDefaults {
            prices: known
                .map(|price| ("known".to_owned(), price))
                .into_iter()
                .collect(),
            caps: Caps::default(),
        };
        let capped = |model: &str| Spending {
            max_cost: Some(1.5),
            ..asked(Some(model))
        };
        let (choice, caps) = capped("known").check(&defaults).unwrap().unwrap();
        assert_eq!((choice.price, caps.cost), (known, Some(1_500_000_000)));
        assert!(capped("another").check(&defaults).is_err());
        let priced = Spending {
            input: Some(3.0),
            output: Some(4.0),
            ..capped("known")
        };
        let (choice, _) = priced.check(&defaults).unwrap().unwrap();
        assert_eq!(
            choice.price,
            Price::of_dollars(3.0, None, 4.0),
            "its own goes before"
        );
        defaults.caps.cost = Some(1);
        assert!(asked(Some("another")).check(&defaults).is_err());
        assert!(asked(None).check(&defaults).unwrap().is_none());
        let (_, caps) = capped("known").check(&defaults).unwrap().unwrap();
        assert_eq!(caps.cost, Some(1_500_000_000));
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        let wrong = [
            Spending {
                max_tokens: Some(5),
                ..asked(None)
            },
            Spending {
                max_cost: Some(-1.0),
                ..asked(Some("m"))
            },
            Spending {
                max_cost: Some(f64::NAN),
                ..asked(Some("m"))
            },
            Spending {
                max_tokens: Some(u64::MAX),
                ..asked(Some("m"))
            },
            Spending {
                input: Some(1.0),
                ..asked(Some("m"))
            },
            Spending {
                output: Some(1.0),
                ..asked(Some("m"))
            },
            Spending {
                cached_input: Some(1.0),
                ..asked(Some("m"))
            },
            Spending {
                input: Some(-1.0),
                output: Some(1.0),
                ..asked(Some("m"))
            },
            asked(Some("a\nb")),
        ];
        for wrong in wrong {
            let told = format!("{wrong:?}");
            assert!(wrong.check(&ModelDefaults::default()).is_err(), "{told}");
        }
    }
}
