//! What a script may say: what the server supports, its limits, and rules that make it misbehave.
//!
//! Knows the form of scripts and checks them; must not know how a behaviour is played. Invariant: a script that was
//! read is one that can be played.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Deserializer, de};

use super::latency::Latency;

/// What the server is told to do. The default is a server that simply works.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// What every chance comes from.
    pub seed: u64,
    /// How long an answer takes where no rule says otherwise.
    pub latency: Latency,
    /// The forms of `response_format` that work.
    pub supports: Supports,
    /// What is done about the others.
    pub unsupported: Unsupported,
    /// Whether prompt tokens are told as cached when their system message was seen before.
    pub cached_tokens: bool,
    /// The longest prompt with its answer, in tokens.
    pub context: Option<u64>,
    /// Whether a prompt beyond `context` is cut without a word, as Ollama does it, or refused.
    pub context_overflow: Overflow,
    /// Beyond these a request is refused with 429.
    pub limits: Limits,
    /// The first one that fits is played; without one, a request is answered well.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
}

/// The forms of `response_format` that work.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Supports(pub Vec<Format>);

impl Default for Supports {
    fn default() -> Self {
        Self(vec![Format::JsonSchema, Format::JsonObject, Format::Text])
    }
}

/// A form of `response_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `json_schema`, with `json_schema.schema`.
    JsonSchema,
    /// `json_object`; a `schema` beside it binds the answer.
    JsonObject,
    /// `json_object`; a `schema` beside it is ignored.
    JsonObjectPlain,
    /// None, or `text`.
    Text,
}

/// What is done about a `response_format` that does not work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unsupported {
    /// 400, as most servers have it.
    #[default]
    Error,
    /// 500 with a validator's message, as llama.cpp's Python server has it.
    LlamaCppPython,
    /// 200, and the format is not looked at.
    Ignore,
}

/// What is done about a prompt that is too long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// 400, `context_length_exceeded`.
    #[default]
    Error,
    /// The prompt is cut and answered, and only `usage` tells.
    Silent,
}

/// Limits over a sliding window.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests that are let in, a window.
    pub rpm: Option<u64>,
    /// Tokens of prompts and answers, a window.
    pub tpm: Option<u64>,
    /// Requests at the same time.
    pub concurrency: Option<u64>,
    /// The length of the window; a minute without.
    #[serde(deserialize_with = "some_duration")]
    pub window: Option<Duration>,
}

/// When what happens.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// For the bill.
    pub name: Option<String>,
    /// Which requests it is for; without, for all.
    #[serde(default)]
    pub when: When,
    /// What happens to them.
    #[serde(default)]
    pub then: Then,
    /// How long that takes, instead of the script's latency.
    pub latency: Option<Latency>,
    /// Whether it is billed; without: what was answered with 2xx is, or was to be.
    pub billed: Option<bool>,
}

/// Which requests a rule is for: those for which everything that is given holds.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// Numbers of requests since the script was put in: `3`, `1..5`, `10..`.
    pub requests: Option<Numbers>,
    /// How often this same request has come: `1` is its first time.
    pub attempts: Option<Numbers>,
    /// Every so many requests.
    pub every: Option<u64>,
    /// With this probability, by the seed.
    pub probability: Option<f64>,
    /// The task of the system message: `mentions`, `classes`, `relations`, `pairs`, `probe`.
    pub task: Option<String>,
    /// A text in the request's body, as JSON has it.
    pub contains: Option<String>,
    /// Not before this time since the script was put in.
    #[serde(deserialize_with = "some_duration")]
    pub after: Option<Duration>,
    /// Only before this time since the script was put in.
    #[serde(deserialize_with = "some_duration")]
    pub before: Option<Duration>,
    /// So many times, then no more.
    pub times: Option<u64>,
}

/// One behaviour.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// A good answer.
    #[default]
    Answer,
    /// An error with a status.
    Fail(Failure),
    /// 429 because the account is empty.
    InsufficientQuota,
    /// 400 because the account is empty.
    CreditBalanceTooLow,
    /// 400 because the prompt is too long.
    ContextLengthExceeded,
    /// The connection ends early.
    Cut(Cut),
    /// Nothing comes, for ever.
    Hang,
    /// JSON that ends in the middle, and `finish_reason: length`.
    Truncate,
    /// `message.refusal`, without content.
    Refuse,
    /// `finish_reason: content_filter`, without content.
    ContentFilter,
    /// Words around the JSON.
    Prose,
    /// The JSON in a Markdown fence.
    Fences,
    /// `<think>…</think>` before the JSON.
    Think,
    /// JSON, but not of the shape that was asked for.
    OtherShape,
    /// Something like JSON that no parser takes.
    BrokenJson,
    /// Labels, classes and predicates that nobody offered.
    WrongLabels,
    /// Occurrences and numbers that are not there.
    WrongNumbers,
    /// This verdict on every pair: `same`, `different`, `unsure`, or a word that nobody offered.
    Verdict(String),
    /// Quotes that are not in the text.
    InventedQuotes,
    /// Quotes with other white space.
    QuoteWhitespace,
    /// Quotes in capitals.
    QuoteCase,
    /// Quotes with typographic apostrophes, dashes and spaces.
    QuoteTypography,
    /// Content of no length.
    EmptyContent,
    /// `content: null`.
    NullContent,
    /// No choice at all.
    NoChoices,
    /// No `usage`.
    NoUsage,
    /// The body comes byte by byte, with this pause between two.
    #[serde(deserialize_with = "duration")]
    Dribble(Duration),
    /// A body of so many bytes.
    Huge(usize),
}

/// Where a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// The client gets nothing at all.
    BeforeHeaders,
    /// The client gets the head, and nothing of the body.
    AfterHeaders,
    /// The client gets the head and half of the body.
    MidBody,
}

/// An error with a status.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// 400 to 599.
    pub status: u16,
    /// `error.code`; without, one that fits.
    pub code: Option<String>,
    /// `error.message`; without, one that fits.
    pub message: Option<String>,
    /// The form of the body.
    #[serde(default)]
    pub body: BodyForm,
    /// How long the client is told to wait.
    #[serde(default, deserialize_with = "some_duration")]
    pub retry_after: Option<Duration>,
    /// How it is told.
    #[serde(default)]
    pub retry_form: RetryForm,
}

/// The body of an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyForm {
    /// `{"error": {"message", "type", "param", "code"}}`.
    #[default]
    Openai,
    /// `{"type": "error", "error": {"type", "message"}}`.
    Anthropic,
    /// The message alone.
    Text,
    /// A gateway's page.
    Html,
    /// Nothing.
    Empty,
}

/// How a client is told how long to wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryForm {
    /// `retry-after: 2`.
    #[default]
    Seconds,
    /// `retry-after: Wed, 21 Oct 2026 07:28:00 GMT`.
    Date,
    /// `retry-after-ms: 1500`.
    Milliseconds,
    /// `x-ratelimit-reset-requests: 6m0s`.
    Reset,
}

/// A range of numbers, both ends within.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers(RangeInclusive<u64>);

impl Numbers {
    fn has(&self, number: u64) -> bool {
        self.0.contains(&number)
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a number, or a range such as \"1..5\" or \"10..\""
        )]
        enum Written {
            One(u64),
            Range(String),
        }
        let range = match Written::deserialize(deserializer)? {
            Written::One(number) => Some(number..=number),
            Written::Range(text) => match text.split_once("..") {
                None => text.parse().ok().map(|number| number..=number),
                Some((first, "")) => first.parse().ok().map(|first| first..=u64::MAX),
                Some((first, last)) => first
                    .parse()
                    .ok()
                    .zip(last.parse().ok())
                    .map(|(first, last)| first..=last),
            },
        };
        range
            .filter(|range| !range.is_empty() && *range.start() > 0)
            .map(Self)
            .ok_or_else(|| {
                de::Error::custom("not a range from 1: write 3, \"1..5\" (5 included) or \"10..\"")
            })
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        de::Error::custom(format!("`{text}` is no time such as 1500ms or 2m: {error}"))
    })
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// Why a text is no script.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// It is not TOML, or says something unknown.
    #[error("the script can't be read")]
    Toml(#[source] Box<toml::de::Error>),
    /// It is not JSON, or says something unknown.
    #[error("the script can't be read")]
    Json(#[from] serde_json::Error),
    /// A rule that can't be played.
    #[error("rule {number} of the script: {why}")]
    Rule {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
    /// Something else that can't be played.
    #[error("the script's {0}")]
    Setting(&'static str),
}

impl Script {
    /// Reads a script: JSON when it begins with a brace, else TOML.
    ///
    /// # Errors
    /// When it can't be read or can't be played; trying again does not help.
    pub fn read(text: &str) -> Result<Self, ScriptError> {
        let script: Self = if text.trim_start().starts_with('{') {
            serde_json::from_str(text)?
        } else {
            toml::from_str(text).map_err(|error| ScriptError::Toml(Box::new(error)))?
        };
        script.check()?;
        Ok(script)
    }

    fn check(&self) -> Result<(), ScriptError> {
        if self.supports.0.is_empty() {
            return Err(ScriptError::Setting("`supports` leaves nothing"));
        }
        let limits = &self.limits;
        if [limits.rpm, limits.tpm, limits.concurrency, self.context].contains(&Some(0))
            || limits.window == Some(Duration::ZERO)
        {
            return Err(ScriptError::Setting("limits let nothing in: take 0 away"));
        }
        let mut catch_all = None;
        for (number, rule) in (1..).zip(&self.rules) {
            let wrong = |why: String| Err(ScriptError::Rule { number, why });
            if let Some(before) = catch_all {
                return wrong(format!("never reached, for rule {before} takes everything"));
            }
            if let Some(why) = rule.wrong() {
                return wrong(why.to_owned());
            }
            if rule.when == When::default() {
                catch_all = Some(number);
            }
        }
        Ok(())
    }
}

impl Rule {
    fn wrong(&self) -> Option<&'static str> {
        let when = &self.when;
        if when.every == Some(0) || when.times == Some(0) {
            return Some("`every` and `times` begin at 1");
        }
        if when.probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
            return Some("`probability` is between 0 and 1");
        }
        if let (Some(after), Some(before)) = (when.after, when.before)
            && after >= before
        {
            return Some("`after` is not before `before`");
        }
        if let Then::Fail(failure) = &self.then
            && !(400..=599).contains(&failure.status)
        {
            return Some("`status` is between 400 and 599");
        }
        None
    }
}

/// What a rule looks at.
pub(super) struct Sight<'a> {
    /// The request's number since the script was put in.
    pub(super) number: u64,
    /// How often this same request has come, this time included.
    pub(super) attempt: u64,
    pub(super) since: Duration,
    pub(super) task: &'a str,
    pub(super) body: &'a str,
    /// From 0 to below 1.
    pub(super) chance: f64,
    /// How often the rule was played.
    pub(super) played: u64,
}

impl When {
    pub(super) fn holds(&self, sight: &Sight<'_>) -> bool {
        let Sight { number, since, .. } = *sight;
        self.requests.as_ref().is_none_or(|range| range.has(number))
            && (self.attempts.as_ref()).is_none_or(|range| range.has(sight.attempt))
            && self.every.is_none_or(|every| number.is_multiple_of(every))
            && self.probability.is_none_or(|p| sight.chance < p)
            && self.task.as_ref().is_none_or(|task| task == sight.task)
            && (self.contains.as_ref()).is_none_or(|text| sight.body.contains(text))
            && self.after.is_none_or(|after| since >= after)
            && self.before.is_none_or(|before| since < before)
            && self.times.is_none_or(|times| sight.played < times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_script_is_refused_with_its_reason() {
        let wrong: [(&str, &str); 12] = [
            ("colour = 1", "unknown field `colour`"),
            ("latency = \"soon\"", "no latency"),
            ("supports = []", "leaves nothing"),
            ("limits = { rpm = 0 }", "let nothing in"),
            ("[[rule]]\nthen = \"explode\"", "unknown variant `explode`"),
            (
                "[[rule]]\nthen = { fail = { status = 200 } }",
                "rule 1 of the script: `status`",
            ),
            (
                "[[rule]]\nthen = { fail = { stauts = 500 } }",
                "unknown field `stauts`",
            ),
            ("[[rule]]\nwhen = { requests = \"5..1\" }", "not a range"),
            ("[[rule]]\nwhen = { every = 0 }", "begin at 1"),
            ("[[rule]]\nwhen = { probability = 2.0 }", "between 0 and 1"),
            (
                "[[rule]]\n[[rule]]\nthen = \"hang\"",
                "rule 2 of the script: never reached",
            ),
            ("{\"rule\": [{\"if\": 1}]}", "unknown field `if`"),
        ];
        for (text, why) in wrong {
            let error = Script::read(text).unwrap_err();
            let mut said = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                said = format!("{said}: {source}");
            }
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn a_rule_is_for_what_all_its_conditions_hold_for() {
        let rule = |when: &str| {
            let script = Script::read(&format!("[[rule]]\nwhen = {{ {when} }}")).unwrap();
            script.rules[0].when.clone()
        };
        let sight = || Sight {
            number: 6,
            attempt: 2,
            since: Duration::from_secs(10),
            task: "classes",
            body: "Paris",
            chance: 0.5,
            played: 1,
        };
        for (when, holds) in [
            ("requests = 6", true),
            ("requests = \"1..6\"", true),
            ("requests = \"7..\"", false),
            ("attempts = 1", false),
            ("every = 3", true),
            ("every = 4", false),
            ("probability = 0.6", true),
            ("probability = 0.5", false),
            ("task = \"classes\", contains = \"Paris\"", true),
            ("task = \"mentions\", contains = \"Paris\"", false),
            ("after = \"10s\", before = \"11s\"", true),
            ("before = \"10s\"", false),
            ("times = 1", false),
            ("times = 2", true),
        ] {
            assert_eq!(rule(when).holds(&sight()), holds, "{when}");
        }
    }
}
