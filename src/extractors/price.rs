//! What a model costs, and which model a batch uses.
//!
//! Whole numbers all the way: a price is kept in millionths of a millionth of a US dollar a token, which is what a
//! dollar a million tokens comes to, and costs are rounded up.

use serde::{Deserialize, Serialize};

use super::{CallRequest, Usage};

/// What tokens cost, in trillionths of a US dollar each: the number of millionths of a dollar a million of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// A token of the prompt.
    pub input: u64,
    /// A token of the prompt that the server read from its cache.
    pub cached_input: u64,
    /// A token of the answer.
    pub output: u64,
}

impl Price {
    /// The price that is written in US dollars a million tokens; cached ones cost as much as others, if nothing else
    /// is said. `None` for a price below zero or beyond all reason.
    #[must_use]
    pub fn of_dollars(input: f64, cached_input: Option<f64>, output: f64) -> Option<Self> {
        Some(Self {
            input: millionths(input)?,
            cached_input: millionths(cached_input.unwrap_or(input))?,
            output: millionths(output)?,
        })
    }

    /// What a call costs at most, in billionths of a dollar: a reservation.
    #[must_use]
    pub fn at_most(&self, request: &CallRequest) -> i64 {
        let input = self.input.max(self.cached_input);
        nanodollars(&[
            (request.prompt_tokens_at_most(), input),
            (request.max_output_tokens, self.output),
        ])
    }

    /// What a call has cost, in billionths of a dollar. Where the server does not say, the most that it may have been
    /// counts.
    #[must_use]
    pub fn of(&self, usage: &Usage, request: &CallRequest) -> i64 {
        let prompt = usage
            .prompt_tokens
            .unwrap_or_else(|| request.prompt_tokens_at_most());
        let cached = usage.cached_tokens.unwrap_or(0).min(prompt);
        let completion = usage.completion_tokens.unwrap_or(request.max_output_tokens);
        nanodollars(&[
            (prompt - cached, self.input),
            (cached, self.cached_input),
            (completion, self.output),
        ])
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked"
)]
fn millionths(dollars: f64) -> Option<u64> {
    (0.0..=1e9)
        .contains(&dollars)
        .then(|| (dollars * 1e6).round() as u64)
}

fn nanodollars(parts: &[(u64, u64)]) -> i64 {
    let trillionths: u128 = parts
        .iter()
        .map(|&(tokens, price)| u128::from(tokens) * u128::from(price))
        .sum();
    i64::try_from(trillionths.div_ceil(1000)).unwrap_or(i64::MAX)
}

/// The model that a batch uses, as its configuration keeps it. Where it is, and with which key it is called, is each
/// worker's own business: neither is ever stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelChoice {
    /// The model's name, as the server knows it.
    pub name: String,
    /// What it costs, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// Answers that other batches have paid for are not used.
    #[serde(default)]
    pub fresh: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extractors::Operation;

    fn request(bytes: usize, output: u64) -> CallRequest {
        CallRequest {
            operation: Operation::Chat,
            body: vec![b'x'; bytes],
            prompt: "test@1".to_owned(),
            sample: 0,
            max_output_tokens: output,
        }
    }

    #[test]
    fn costs_are_whole_and_rounded_up() {
        let price = Price::of_dollars(0.15, Some(0.075), 0.6).unwrap();
        let usage = Usage {
            prompt_tokens: Some(1_000_000),
            cached_tokens: Some(400_000),
            completion_tokens: Some(1_000_000),
        };
        // 0.09 + 0.03 + 0.6 dollars.
        assert_eq!(price.of(&usage, &request(10, 10)), 720_000_000);
        let one = Usage {
            prompt_tokens: Some(1),
            cached_tokens: None,
            completion_tokens: Some(0),
        };
        let dear = Price::of_dollars(0.0001, None, 0.0).unwrap();
        assert_eq!(dear.of(&one, &request(10, 10)), 1);
        assert_eq!(Price::of_dollars(-1.0, None, 1.0), None);
        assert_eq!(Price::of_dollars(f64::NAN, None, 1.0), None);
    }

    #[test]
    fn a_reservation_is_never_below_the_cost() {
        let price = Price::of_dollars(3.0, Some(0.3), 15.0).unwrap();
        let request = request(4000, 500);
        let silent = Usage::default();
        let said = Usage {
            prompt_tokens: Some(1200),
            cached_tokens: Some(1000),
            completion_tokens: Some(500),
        };
        let most = price.at_most(&request);
        assert_eq!(price.of(&silent, &request), most);
        assert!(price.of(&said, &request) < most);
    }
}
