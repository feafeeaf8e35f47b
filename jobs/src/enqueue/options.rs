//! How a batch is worked: the options of a submission over HTTP, under the same names.
//!
//! Invariant: what is not said is not written, and the service decides.

use serde::{Deserialize, Serialize};

use super::envelope::{Addition, Submission};

macro_rules! options {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $given:ty,)*) => {
        /// How a batch is worked; each has a method of the same name on [`Submission`] and [`Addition`].
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[non_exhaustive]
        pub struct Options {$(
            $(#[$doc])*
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $name: Option<$type>,
        )*}

        options!(@methods Submission $($(#[$doc])* $name: $given,)*);
        options!(@methods Addition $($(#[$doc])* $name: $given,)*);
    };
    (@methods $of:ident $($(#[$doc:meta])* $name:ident: $given:ty,)*) => {
        impl $of {$(
            $(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $name: $given) -> Self {
                self.options.$name = Some($name.into());
                self
            }
        )*}
    };
}

options! {
    /// Who extracts; `local` if nothing is said.
    extractor: String = impl Into<String>,
    /// The model that is called.
    model: String = impl Into<String>,
    /// What the model's prompts cost, in US dollars a million tokens; the service's own prices if nothing is said.
    price_input: f64 = f64,
    /// What prompts cost that its server read from its cache; as others if nothing is said.
    price_cached_input: f64 = f64,
    /// What its answers cost.
    price_output: f64 = f64,
    /// What the batch's calls may cost in all, in US dollars: it is paused before one could pass it. It needs a price.
    max_cost: f64 = f64,
    /// How many tokens its calls may take in all.
    max_tokens: u64 = u64,
    /// Whether the model is asked about names that may be of one thing.
    adjudicate: bool = bool,
    /// Questions about names, at most, 1 to 10,000.
    adjudicate_most: u32 = u32,
    /// Documents in work at once, over all replicas, 1 to 10,000 (5).
    concurrency: u32 = u32,
    /// What to do about a document that fails: `continue-on-failure`, `abort-all` or `retry-failed`.
    failure_policy: String = impl Into<String>,
    /// Extra rounds that `retry-failed` gives, 0 to 100 (2).
    max_retries: u32 = u32,
    /// Documents that may be given up, as a number or a share (`10`, `5%`), before the rest is cancelled.
    max_failures: String = impl Into<String>,
    /// Its share of the fleet against the organization's other batches, 1 to 1,000 (1).
    weight: u32 = u32,
    /// What becomes of a document some of whose units failed: `allow` or `fail`.
    partial: String = impl Into<String>,
    /// Where to tell of the batch's end: an http or https address.
    notify: String = impl Into<String>,
}
