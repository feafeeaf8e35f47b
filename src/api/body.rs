//! The body of a request, read as everything that is sent is read, and the options that stand in a query instead.

use axum::http::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::IntoParams;

use super::problem::Problem;
use crate::workflow::{self, Unfit};

pub(super) use crate::workflow::{AdditionBody, SubmissionBody};

/// The options of a batch whose documents come as lines or files.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BatchOptions {
    /// With lines or files: the batch's name.
    name: Option<String>,
    /// With lines or files: documents in work at once, over all replicas, 1 to 10,000 (5).
    concurrency: Option<u32>,
    /// With lines or files: `continue-on-failure`, `abort-all` or `retry-failed`.
    failure_policy: Option<String>,
    /// With lines or files: extra rounds that `retry-failed` gives, 0 to 100 (2).
    max_retries: Option<u32>,
    /// With lines or files: documents that may be given up (`10`, `5%`).
    max_failures: Option<String>,
    /// With lines or files: its share of the fleet, 1 to 1,000 (1).
    weight: Option<u32>,
    /// With lines or files: who extracts (`local`).
    extractor: Option<String>,
    /// With lines or files: `allow` or `fail` documents some of whose units failed.
    partial: Option<String>,
    /// With lines or files: where to tell of its end.
    notify: Option<String>,
    /// With lines or files: keep it open for more.
    pub(super) open: Option<bool>,
    /// With lines or files: the model that is called.
    model: Option<String>,
    /// With lines or files: what tokens of its prompts cost, in US dollars a million.
    price_input: Option<f64>,
    /// With lines or files: what tokens of prompts cost that its server read from its cache.
    price_cached_input: Option<f64>,
    /// With lines or files: what tokens of its answers cost.
    price_output: Option<f64>,
    /// With lines or files: what its calls may cost in all, in US dollars.
    max_cost: Option<f64>,
    /// With lines or files: how many tokens they may take in all.
    max_tokens: Option<u64>,
    /// With lines or files: whether a model is asked about names that may be of one thing.
    adjudicate: Option<bool>,
    /// With lines or files: questions about names, at most, 1 to 10,000.
    adjudicate_most: Option<u32>,
}

impl From<BatchOptions> for SubmissionBody {
    fn from(options: BatchOptions) -> Self {
        Self {
            name: options.name,
            documents: Vec::new(),
            concurrency: options.concurrency,
            failure_policy: options.failure_policy,
            max_retries: options.max_retries,
            max_failures: options.max_failures,
            weight: options.weight,
            extractor: options.extractor,
            partial: options.partial,
            notify: options.notify,
            open: options.open,
            model: options.model,
            price_input: options.price_input,
            price_cached_input: options.price_cached_input,
            price_output: options.price_output,
            max_cost: options.max_cost,
            max_tokens: options.max_tokens,
            adjudicate: options.adjudicate,
            adjudicate_most: options.adjudicate_most,
        }
    }
}

/// Reads a submission, or documents for a batch that is there.
///
/// # Errors
/// 400 for what is not JSON, 422 for JSON of another shape; trying the same again does not help.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    Ok(workflow::read_body(bytes)?)
}

impl From<Unfit> for Problem {
    fn from(unfit: Unfit) -> Self {
        let status = if unfit.is_no_json {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        };
        let mut problem = Self::new(status, unfit.detail);
        if let Some(place) = unfit.place {
            problem = problem.with("place", place);
        }
        if let Some((line, column)) = unfit.at {
            problem = problem.with("line", line).with("column", column);
        }
        problem
    }
}
