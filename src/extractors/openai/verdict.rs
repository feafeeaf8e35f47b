//! What a server's response means: the one table of errors, which `docs/MODELS.md` shows.
//!
//! Servers echo prompts in their messages. So nothing of a message goes on: people are told the status, the server's
//! own code if it looks like one, and a sentence of ours. Invariant: no panic, whatever the server sends.

use serde_json::Value;

use super::super::{Exchange, Operation, Refusal, Usage, Verdict};

/// Codes that say that the account is out of money, whatever the status.
///
/// **Source:** OpenAI's `insufficient_quota` and `billing_hard_limit_reached`, and those that open clients tell apart
/// from limits of the rate.
const BILLING_CODES: [&str; 5] = [
    "insufficient_quota",
    "credit_balance_exhausted",
    "billing_hard_limit_reached",
    "billing_not_active",
    "insufficient_balance",
];
const BILLING_ENDINGS: [&str; 2] = ["_spend_limit_exceeded", "_usage_limit_exceeded"];
const BILLING_WORDS: [&str; 2] = ["billing hard limit", "credit balance is too low"];

/// How servers say that a prompt is longer than the model's context.
///
/// **Source:** OpenAI, vLLM and llama-cpp-python; llama-server; Anthropic; Gemini; LM Studio; Ollama.
const OVERFLOW_CODES: [&str; 2] = ["context_length_exceeded", "exceed_context_size_error"];
const OVERFLOW_WORDS: [&str; 7] = [
    "maximum context length",
    "prompt is too long",
    "exceeds the available context size",
    "exceeds the maximum number of tokens",
    "exceed context window",
    "context length exceeded",
    "input length exceeds",
];

/// How servers say that they do not know a form of structured output.
const FORMAT_WORDS: [&str; 7] = [
    "response_format",
    "json_schema",
    "json_object",
    "structured output",
    "guided decoding",
    "grammar",
    "unable to generate parser",
];

/// How servers say that they have no model of that name, or none that the key may use.
///
/// **Source:** the code is OpenAI's, Groq's and LM Studio's. A 404 says it in words at vLLM ("The model `x` does not
/// exist."), Ollama ("model 'x' not found") and Gemini ("models/x is not found"), and by `type` and "model: x" at
/// Anthropic; a 400 does at `DeepSeek`, `LiteLLM`, Mistral ("Invalid model: x") and `OpenRouter`.
const NO_MODEL_CODE: &str = "model_not_found";
const NO_MODEL_WORDS: [&str; 4] = ["does not exist", "not found", "not exist", "have access"];
const NO_MODEL_BEGINNINGS: [&str; 2] = ["invalid model", "model not exist"];
const NO_MODEL_ENDING: &str = "is not a valid model id";

/// How much of a message is looked at: what a server says stands first, what it echoes later.
const LOOKED_AT: usize = 400;

/// What a response to `operation` means.
#[must_use]
pub fn verdict(operation: Operation, exchange: &Exchange) -> Verdict {
    let body: Option<Value> = serde_json::from_slice(&exchange.body).ok();
    match exchange.status {
        200..300 => complete(operation, body.as_ref()),
        status => refused(status, &Said::by(body.as_ref(), &exchange.body)),
    }
}

/// A 2xx.
fn complete(operation: Operation, body: Option<&Value>) -> Verdict {
    let Some(body) = body.filter(|body| body.is_object()) else {
        return Verdict::Failed {
            reason: "the model's server answered something that is no JSON, as gateways do"
                .to_owned(),
        };
    };
    // Gateways wrap the error of the server behind them in a 200.
    let error = [body.get("error"), body.pointer("/choices/0/error")]
        .into_iter()
        .flatten()
        .find(|error| !error.is_null());
    if let Some(error) = error {
        let status = error.get("code").and_then(Value::as_u64);
        let status = status.and_then(|status| u16::try_from(status).ok());
        let status = status.filter(|status| (400..600).contains(status));
        let said = Said::by(Some(&serde_json::json!({ "error": error })), &[]);
        return refused(status.unwrap_or(502), &said);
    }
    let is_complete = match operation {
        Operation::Chat => {
            let choice = body.pointer("/choices/0");
            choice.is_some_and(|choice| {
                choice.get("message").is_some_and(Value::is_object)
                    && choice.get("finish_reason").and_then(Value::as_str) != Some("error")
            })
        }
        Operation::Embeddings => body.pointer("/data/0/embedding").is_some(),
    };
    if is_complete {
        Verdict::Answered(usage(body))
    } else {
        Verdict::Failed {
            reason: "the model's server answered something that is no complete answer".to_owned(),
        }
    }
}

/// Anything but a 2xx: THE table.
fn refused(status: u16, said: &Said) -> Verdict {
    let code = said.shown();
    if said.is_billing() {
        return Verdict::Blocked {
            reason: format!(
                "the account of the model's server is out of money or at its spending limit (HTTP {status}{code}): \
                 add credit or raise the limit there, then resume"
            ),
        };
    }
    if said.is_no_model(status) {
        return Verdict::Blocked {
            reason: format!(
                "the model's server has no model of this name, or not for this key (HTTP {status}{code}): have it \
                 served there, then resume; or cancel this batch and begin another with the right --model"
            ),
        };
    }
    // A size that only this server calls too large, and forms that it calls an error of its own.
    let can_be_the_request = matches!(status, 400 | 413 | 422 | 500);
    if can_be_the_request && (status == 413 || said.is_overflow()) {
        return Verdict::Refused {
            why: Refusal::ContextOverflow,
            message: format!("the prompt is too long for the model (HTTP {status}{code})"),
        };
    }
    if can_be_the_request && let Some((why, what)) = said.unsupported() {
        return Verdict::Refused {
            why,
            message: format!("the model's server does not take {what} (HTTP {status}{code})"),
        };
    }
    match status {
        429 => Verdict::Throttled,
        401 | 403 => Verdict::Blocked {
            reason: format!(
                "the model's server refuses the key (HTTP {status}{code}): check OPENAI_API_KEY, and that it may use \
                 this model at the address of OPENAI_BASE_URL, then resume"
            ),
        },
        402 => Verdict::Blocked {
            reason: format!(
                "the model's server wants to be paid (HTTP {status}{code}): check the account of OPENAI_API_KEY, then \
                 resume"
            ),
        },
        407 => Verdict::Blocked {
            reason: "the proxy wants a password (HTTP 407): check HTTPS_PROXY, then resume"
                .to_owned(),
        },
        300..=399 => Verdict::Blocked {
            reason: format!(
                "the model's server is somewhere else (HTTP {status}): set OPENAI_BASE_URL to its own address, for \
                 the key is not sent after a redirect"
            ),
        },
        408 | 409 | 425 | 500.. => Verdict::Failed {
            reason: format!("the model's server failed (HTTP {status}{code})"),
        },
        404 => Verdict::Refused {
            why: Refusal::NotFound,
            message: format!(
                "the model's server has nothing at this address (HTTP 404{code}): check OPENAI_BASE_URL, which ends in \
                 /v1 as a rule"
            ),
        },
        // 400, 422, and what nobody has heard of.
        _ => Verdict::Refused {
            why: Refusal::Request,
            message: format!("the model's server refuses the request (HTTP {status}{code})"),
        },
    }
}

/// What a server says of an error, for looking at and not for showing.
#[derive(Default)]
struct Said {
    /// `error.code` and `error.type`.
    codes: Vec<String>,
    /// `error.param`, and the places that a validator names.
    param: String,
    /// The beginning of its message, in lower case.
    message: String,
}

impl Said {
    fn by(body: Option<&Value>, raw: &[u8]) -> Self {
        let Some(body) = body else {
            let head = &raw[..raw.len().min(LOOKED_AT)];
            let message = String::from_utf8_lossy(head).to_lowercase();
            return Self {
                message,
                ..Self::default()
            };
        };
        // Some gateways put the object into a list of one.
        let body = body.get(0).unwrap_or(body);
        let error = body.get("error").unwrap_or(body);
        let text = |key: &str| error.get(key).and_then(Value::as_str);
        let codes = ["code", "type"].into_iter().filter_map(text);
        let mut said = Self {
            codes: codes.map(str::to_owned).collect(),
            param: text("param").unwrap_or_default().to_owned(),
            message: String::new(),
        };
        let messages = [
            error.as_str(),
            text("message"),
            text("detail"),
            body.get("message").and_then(Value::as_str),
        ];
        for message in messages.into_iter().flatten() {
            said.hear(message);
        }
        // A validator's list of complaints; what it was given stands in each, and is not looked at.
        for complaint in error
            .get("detail")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            said.hear(
                complaint
                    .get("msg")
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
            );
            for place in complaint
                .get("loc")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                said.param.push(' ');
                said.param
                    .extend(place.as_str().unwrap_or_default().chars().take(64));
            }
        }
        said
    }

    fn hear(&mut self, message: &str) {
        self.message.push(' ');
        let room = LOOKED_AT.saturating_sub(self.message.len());
        self.message
            .extend(message.chars().take(room).flat_map(char::to_lowercase));
    }

    fn has_code(&self, is: impl Fn(&str) -> bool) -> bool {
        self.codes.iter().any(|code| is(code))
    }

    fn says(&self, words: &[&str]) -> bool {
        words.iter().any(|words| self.message.contains(words))
    }

    fn is_billing(&self) -> bool {
        self.says(&BILLING_WORDS)
            || self.has_code(|code| {
                BILLING_CODES.contains(&code)
                    || BILLING_ENDINGS.iter().any(|ending| code.ends_with(ending))
            })
    }

    fn is_overflow(&self) -> bool {
        self.says(&OVERFLOW_WORDS) || self.has_code(|code| OVERFLOW_CODES.contains(&code))
    }

    /// Whether it is the model that is not there. Words count only where no prompt is echoed: a 404, and the
    /// beginning and the end of what a 400 says.
    fn is_no_model(&self, status: u16) -> bool {
        let message = self.message.trim();
        match status {
            404 => {
                self.has_code(|code| code == NO_MODEL_CODE)
                    || message.contains("model") && self.says(&NO_MODEL_WORDS)
                    || message.starts_with("model:")
                        && self.has_code(|code| code == "not_found_error")
            }
            400 | 403 | 422 => {
                self.has_code(|code| code == NO_MODEL_CODE)
                    || NO_MODEL_BEGINNINGS
                        .iter()
                        .any(|words| message.starts_with(words))
                    || message.trim_end_matches('.').ends_with(NO_MODEL_ENDING)
            }
            _ => false,
        }
    }

    /// The part of the request that is not known there.
    fn unsupported(&self) -> Option<(Refusal, &'static str)> {
        let refuses = self
            .has_code(|code| code.starts_with("unsupported_") || code == "unknown_parameter")
            || self.says(&[
                "unsupported",
                "not support",
                "unrecognized",
                "unknown",
                "not permitted",
                "should be 'text'",
                "must be",
                "is unavailable",
                "not available",
                "extra inputs",
                "does not match",
                "invalid value",
                "only the default",
            ]);
        let about = |name: &str| self.param.contains(name) || self.message.contains(name);
        if !refuses {
            return None;
        }
        // The new name of the cap stands in the refusal of the old one: the one that is refused stands first.
        if about("max_completion_tokens") || about("max_tokens") {
            return Some((Refusal::OutputCap, "this name for the cap of tokens"));
        }
        if about("temperature") {
            return Some((Refusal::Temperature, "a temperature"));
        }
        if FORMAT_WORDS.iter().any(|word| about(word)) || self.says(&["'text' or 'json_object'"]) {
            return Some((Refusal::Unsupported, "this form of structured output"));
        }
        None
    }

    /// Its code, if it is one: lower case and underscores, so that neither a key nor a sentence is shown.
    fn shown(&self) -> String {
        let is_code = |code: &&String| {
            (1..=64).contains(&code.len())
                && code.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_'))
        };
        self.codes
            .iter()
            .find(is_code)
            .map_or_else(String::new, |code| format!(", {code}"))
    }
}

/// What the server says that it took; what it does not say, or not as a number, is not known.
fn usage(body: &Value) -> Usage {
    let count = |path: &str| body.pointer(path).and_then(Value::as_u64);
    Usage {
        prompt_tokens: count("/usage/prompt_tokens").or_else(|| count("/usage/input_tokens")),
        cached_tokens: count("/usage/prompt_tokens_details/cached_tokens")
            .or_else(|| count("/usage/prompt_cache_hit_tokens")),
        completion_tokens: count("/usage/completion_tokens")
            .or_else(|| count("/usage/output_tokens")),
    }
}

#[cfg(test)]
mod tests;
