//! Models: where they are, what they cost, how hard they may be called. From flags, the environment and a file, in
//! this order; the file's names are the flags'.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use serde::Deserialize;

use crate::{
    extractors::{ModelChoice, OpenAiSettings, Price, Secret},
    queue::LimitSettings,
};

/// The file that is read if it is there and no other is named.
const DEFAULT_FILE: &str = "graphmill.toml";
/// The largest configuration that is read.
const FILE_BYTES: u64 = 1 << 20;

/// How models are called; for the extractor `openai`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Models")]
pub struct ModelArgs {
    /// Settings from a file, TOML, under the names of these flags; without it, `graphmill.toml` if there is one.
    #[arg(long, env = "GRAPHMILL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The OpenAI-compatible server's base address; OpenAI itself without it.
    #[arg(long, env = "OPENAI_BASE_URL", value_name = "URL")]
    pub openai_base_url: Option<String>,
    /// Its key; better given by the environment, since a command line can be seen by others.
    #[arg(
        long,
        env = "OPENAI_API_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    pub openai_api_key: Option<String>,
    /// The model, as the server calls it.
    #[arg(long = "model", env = "GRAPHMILL_MODEL", value_name = "NAME")]
    pub model: Option<String>,
    /// How long a call may take, to its last byte [default: 2m].
    #[arg(long, env = "GRAPHMILL_MODEL_TIMEOUT", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub model_timeout: Option<Duration>,
    /// Requests a minute, over all replicas.
    #[arg(long, env = "GRAPHMILL_RPM", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rpm: Option<u32>,
    /// Tokens a minute, over all replicas.
    #[arg(long, env = "GRAPHMILL_TPM", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub tpm: Option<u64>,
    /// Calls at once, over all replicas [default: 32].
    #[arg(long, env = "GRAPHMILL_MODEL_CONCURRENCY", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub model_concurrency: Option<u32>,
    /// Failures in a row that open the circuit breaker [default: 5].
    #[arg(long, env = "GRAPHMILL_BREAKER_FAILURES", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub breaker_failures: Option<u32>,
    /// Seconds until an open breaker lets one call try [default: 30].
    #[arg(long, env = "GRAPHMILL_BREAKER_SECONDS", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub breaker_seconds: Option<u64>,
}

/// What a batch may spend; flags of `run` and of `batch resume`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Models")]
pub struct BudgetArgs {
    /// What the batch may cost at most, in US dollars; it is paused before a call could pass that.
    #[arg(long, value_name = "DOLLARS", value_parser = dollars)]
    pub max_cost: Option<i64>,
    /// Tokens that the batch may take at most, of prompts and answers together.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    pub max_tokens: Option<i64>,
}

/// What all batches of the organization may spend together; flags of `budget set`.
#[derive(Debug, Clone, Default, Args)]
pub struct OrganizationBudgetArgs {
    /// What all batches together may cost at most, in US dollars.
    #[arg(long, value_name = "DOLLARS", value_parser = dollars)]
    pub max_cost: Option<i64>,
    /// Tokens that all batches together may take at most, of prompts and answers.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    pub max_tokens: Option<i64>,
}

/// A configuration that can't be used. Trying again does not help; the message names the place.
#[derive(Debug, thiserror::Error)]
pub enum ModelConfigError {
    /// The file can't be read.
    #[error("the configuration `{path}` can't be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not the TOML that is wanted.
    #[error("the configuration `{path}` can't be used: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why, with the line.
        source: Box<toml::de::Error>,
    },
    /// A number that can't be meant.
    #[error("`{key}` in `{path}` can't be meant: it is out of range")]
    Range {
        /// The file.
        path: PathBuf,
        /// The name of the setting.
        key: &'static str,
    },
    /// A price that can't be meant.
    #[error(
        "the price of `{model}` in `{path}` can't be meant: US dollars a million tokens, not below 0"
    )]
    Price {
        /// The file.
        path: PathBuf,
        /// The model.
        model: String,
    },
}

/// What a configuration file may hold.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(clippy::struct_field_names, reason = "the names are the flags'")]
struct File {
    openai_base_url: Option<String>,
    model: Option<String>,
    #[serde(default, with = "humantime_serde_option")]
    model_timeout: Option<Duration>,
    rpm: Option<u32>,
    tpm: Option<u64>,
    model_concurrency: Option<u32>,
    breaker_failures: Option<u32>,
    breaker_seconds: Option<u64>,
    max_cost: Option<f64>,
    max_tokens: Option<i64>,
    model_ca_file: Option<PathBuf>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    prices: BTreeMap<String, FilePrice>,
}

/// A key of the file, for docs/CONFIG.md.
#[derive(Debug, Clone, Copy)]
pub struct FileKey {
    /// How it is written.
    pub name: &'static str,
    /// What may stand behind it.
    pub value: &'static str,
    /// What it means; empty: what the flag of that name does.
    pub meaning: &'static str,
}

const fn key(name: &'static str, value: &'static str, meaning: &'static str) -> FileKey {
    FileKey {
        name,
        value,
        meaning,
    }
}

/// Every key that the file may hold.
pub const FILE_KEYS: &[FileKey] = &[
    key("openai-base-url", "text", ""),
    key("model", "text", ""),
    key("model-timeout", "a time: `\"90s\"`", ""),
    key("rpm", "a number", ""),
    key("tpm", "a number", ""),
    key("model-concurrency", "a number", ""),
    key("breaker-failures", "a number", ""),
    key("breaker-seconds", "a number", ""),
    key(
        "max-cost",
        "a number",
        "What a batch may cost at most if `--max-cost` says nothing else, in US dollars.",
    ),
    key(
        "max-tokens",
        "a number",
        "Tokens that a batch may take at most if `--max-tokens` says nothing else.",
    ),
    key(
        "model-ca-file",
        "a path",
        "Certificates (PEM) that the model's server is trusted by besides the system's.",
    ),
    key(
        "headers",
        "a table",
        "Headers that are sent with each call, name = \"value\"; their values are in no log.",
    ),
    key(
        "prices",
        "a table of tables",
        "`[prices.\"MODEL\"]`: what a model costs, by the name that the server knows it by. Without one the cost is \
         not known, and `--max-cost` is refused.",
    ),
    key(
        "prices.MODEL.input",
        "a number",
        "US dollars a million tokens of prompts.",
    ),
    key(
        "prices.MODEL.cached-input",
        "a number",
        "The same, of prompts that the server had in its cache; without it, as `input`.",
    ),
    key(
        "prices.MODEL.output",
        "a number",
        "US dollars a million tokens of answers.",
    ),
];

impl File {
    /// The first setting whose number a flag would not take either.
    fn out_of_range(&self) -> Option<&'static str> {
        let concurrency = self.model_concurrency;
        [
            ("rpm", self.rpm == Some(0)),
            ("tpm", self.tpm == Some(0)),
            (
                "model-concurrency",
                concurrency.is_some_and(|calls| !(1..=10_000).contains(&calls)),
            ),
            ("breaker-failures", self.breaker_failures == Some(0)),
            ("breaker-seconds", self.breaker_seconds == Some(0)),
            (
                "max-cost",
                self.max_cost
                    .is_some_and(|cost| nanodollars(cost).is_none()),
            ),
            (
                "max-tokens",
                self.max_tokens.is_some_and(|tokens| tokens < 0),
            ),
        ]
        .into_iter()
        .find_map(|(key, is_out)| is_out.then_some(key))
    }
}

/// US dollars a million tokens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FilePrice {
    input: f64,
    cached_input: Option<f64>,
    output: f64,
}

/// How models are called, all sources together.
#[derive(Debug, Clone)]
pub struct Models {
    /// The server.
    pub server: OpenAiSettings,
    /// It was named, or a key for it was: without either there is nobody to call.
    pub is_configured: bool,
    /// The model, if one is named.
    pub model: Option<String>,
    /// How hard it may be called.
    pub limits: LimitSettings,
    /// What models cost, by name.
    pub prices: BTreeMap<String, Price>,
    /// What a batch may cost if nothing else is said, in billionths of a dollar.
    pub max_cost: Option<i64>,
    /// Tokens that a batch may take if nothing else is said.
    pub max_tokens: Option<i64>,
}

impl ModelArgs {
    /// Reads the file and puts everything together.
    ///
    /// # Errors
    /// [`ModelConfigError`] names the file and the line; trying again does not help.
    pub fn load(&self) -> Result<Models, ModelConfigError> {
        let (path, file) = match &self.config {
            Some(path) => (path.clone(), read(path)?),
            None if Path::new(DEFAULT_FILE).is_file() => {
                (DEFAULT_FILE.into(), read(Path::new(DEFAULT_FILE))?)
            }
            None => (PathBuf::new(), File::default()),
        };
        if let Some(key) = file.out_of_range() {
            return Err(ModelConfigError::Range { path, key });
        }
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let base_url = given(&self.openai_base_url).or(file.openai_base_url);
        let key = given(&self.openai_api_key);
        let timeout = self
            .model_timeout
            .or(file.model_timeout)
            .unwrap_or(Duration::from_secs(120));
        let default = OpenAiSettings::default();
        let defaults = LimitSettings::default();
        let breaker_seconds = self.breaker_seconds.or(file.breaker_seconds);
        let mut prices = BTreeMap::new();
        for (model, price) in file.prices {
            let Some(price) = Price::of_dollars(price.input, price.cached_input, price.output)
            else {
                return Err(ModelConfigError::Price { path, model });
            };
            prices.insert(model, price);
        }
        Ok(Models {
            is_configured: base_url.is_some() || key.is_some(),
            server: OpenAiSettings {
                base_url: base_url.unwrap_or(default.base_url),
                api_key: key.map(Secret::new),
                headers: secret(file.headers),
                ca_file: file.model_ca_file,
                timeout,
                ..default
            },
            model: given(&self.model).or(file.model),
            limits: LimitSettings {
                requests_per_minute: self.rpm.or(file.rpm),
                tokens_per_minute: self.tpm.or(file.tpm),
                concurrency: self
                    .model_concurrency
                    .or(file.model_concurrency)
                    .unwrap_or(defaults.concurrency),
                breaker_failures: self
                    .breaker_failures
                    .or(file.breaker_failures)
                    .unwrap_or(defaults.breaker_failures),
                breaker_open: breaker_seconds.map_or(defaults.breaker_open, Duration::from_secs),
                ..defaults
            },
            prices,
            max_cost: file.max_cost.and_then(nanodollars),
            max_tokens: file.max_tokens,
        })
    }
}

impl Models {
    /// The choice of a batch; `None` if no model is named.
    #[must_use]
    pub fn choice(&self, fresh: bool) -> Option<ModelChoice> {
        let name = self.model.clone()?;
        Some(ModelChoice {
            price: self.prices.get(&name).copied(),
            name,
            fresh,
        })
    }
}

fn secret(headers: BTreeMap<String, String>) -> Vec<(String, Secret)> {
    let secret = |(name, value)| (name, Secret::new(value));
    headers.into_iter().map(secret).collect()
}

fn read(path: &Path) -> Result<File, ModelConfigError> {
    let read = |source| ModelConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let size = std::fs::metadata(path).map_err(read)?.len();
    if size > FILE_BYTES {
        return Err(read(std::io::Error::other("it is larger than 1 MiB")));
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    toml::from_str(&text).map_err(|source| ModelConfigError::Parse {
        path: path.to_owned(),
        source: source.into(),
    })
}

/// US dollars in billionths; `None` if they can't be meant.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn nanodollars(dollars: f64) -> Option<i64> {
    (0.0..=1e9)
        .contains(&dollars)
        .then(|| (dollars * 1e9).round() as i64)
}

fn dollars(text: &str) -> Result<i64, String> {
    text.trim_start_matches('$')
        .parse()
        .ok()
        .and_then(nanodollars)
        .ok_or_else(|| "US dollars, for example 2.50".to_owned())
}

/// A duration as people write it: `90s`, `2m`.
mod humantime_serde_option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| humantime::parse_duration(&text).map_err(de::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Models, ModelConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        ModelArgs {
            config: Some(file.path().to_owned()),
            rpm: Some(7),
            ..ModelArgs::default()
        }
        .load()
    }

    #[test]
    fn the_documented_file_is_read_and_flags_win() {
        let docs = include_str!("../../docs/MODELS.md");
        let (_, rest) = docs.split_once("```toml\n").unwrap();
        let (text, _) = rest.split_once("```").unwrap();
        let models = load(text).unwrap();
        assert!(models.is_configured);
        assert_eq!(models.limits.requests_per_minute, Some(7));
        assert_eq!(models.limits.tokens_per_minute, Some(200_000));
        assert_eq!(models.limits.breaker_open, Duration::from_secs(30));
        assert_eq!(models.server.timeout, Duration::from_secs(120));
        assert_eq!(models.max_cost, Some(25_000_000_000));
        let choice = models.choice(false).unwrap();
        assert_eq!(choice.name, "gpt-4o-mini");
        assert_eq!(choice.price, Price::of_dollars(0.15, Some(0.075), 0.6));
    }

    #[test]
    fn every_key_is_told_of_and_no_other() {
        // What serde would have taken.
        let expected = |text: &str| -> Vec<String> {
            let refused = toml::from_str::<File>(text).unwrap_err().to_string();
            let (_, list) = refused.split_once("expected one of ").unwrap();
            let list = list.lines().next().unwrap();
            let names = list.split('`').skip(1).step_by(2);
            names.map(str::to_owned).collect()
        };
        let mut keys = expected("no-such-key = 1\n");
        let prices = expected("[prices.x]\nno-such-key = 1\n");
        keys.extend(prices.iter().map(|name| format!("prices.MODEL.{name}")));
        let told: Vec<&str> = FILE_KEYS.iter().map(|key| key.name).collect();
        assert_eq!(told, keys);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        let said = |text: &str| {
            let refused = load(text).unwrap_err();
            refused.to_string()
        };
        assert!(said("rpm = 1\nrmp = 2\n").contains("line 2"));
        assert!(said("[prices.x]\ninput = -1.0\noutput = 1.0\n").contains("`x`"));
        assert!(said("max-cost = -3.0\n").contains("max-cost"));
        assert!(said("model-timeout = \"soon\"\n").contains("line 1"));
    }
}
