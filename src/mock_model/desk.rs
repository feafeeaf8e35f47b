//! What one request meets, in this order: the key, the bill, the limits, the rules, the checks of its form; then the
//! work, and the answer.
//!
//! Knows everything of the server but sockets and routes.
//!
//! Invariants: `received` is on the bill before anything else happens to a request, `answered` before its answer
//! leaves. Work that is begun is ended and billed, also when its client has left.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    answer,
    bill::{Bill, Entry, Event, Stats},
    embedding, failure,
    latency::Chance,
    limits::Admitted,
    request::{Chat, tokens},
    schema,
    script::{Failure, Format, Overflow, RetryForm, Rule, Script, Sight, Then, Unsupported},
    spoil,
};

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Embeddings,
}

/// A request as it came.
pub(super) struct Arrival<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) call: Option<String>,
    pub(super) authorization: Option<&'a str>,
    pub(super) body: &'a [u8],
}

/// What is to be done about a request.
pub(super) struct Plan {
    /// What its `answered` line will say.
    entry: Entry,
    pub(super) reply: Reply,
    /// How the reply is given.
    pub(super) then: Then,
    pub(super) latency: Duration,
}

/// What a client is told.
pub(super) enum Reply {
    Good(Value),
    Bad(Failure),
}

/// The server's mind.
pub(super) struct Desk {
    started: Instant,
    started_unix: Duration,
    api_key: Option<String>,
    state: Mutex<State>,
}

struct State {
    bill: Bill,
    script: Script,
    /// When the script was put in, and the requests that have come since.
    script_since: Instant,
    script_requests: u64,
    played: Vec<u64>,
    admitted: Admitted,
    in_flight: u64,
    prefixes: HashSet<String>,
}

impl Desk {
    pub(super) fn new(script: Script, bill: Bill, api_key: Option<String>) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is a server, and its clock decides what is on its bill"
        )]
        let started_unix = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let started = Instant::now();
        Self {
            started,
            started_unix,
            api_key,
            state: Mutex::new(State {
                bill,
                played: vec![0; script.rules.len()],
                script,
                script_since: started,
                script_requests: 0,
                admitted: Admitted::default(),
                in_flight: 0,
                prefixes: HashSet::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the script; its rules count from here.
    pub(super) fn play(&self, script: Script) {
        let mut state = self.state();
        state.played = vec![0; script.rules.len()];
        state.script = script;
        state.script_since = Instant::now();
        state.script_requests = 0;
        state.admitted = Admitted::default();
    }

    pub(super) fn bill(&self) -> Vec<Entry> {
        self.state().bill.entries().to_vec()
    }

    pub(super) fn stats(&self) -> Stats {
        let state = self.state();
        let mut sums = Stats::of(state.bill.entries());
        sums.in_flight = state.in_flight;
        sums
    }

    /// The time by the server's clock, since 1970.
    pub(super) fn unix(&self) -> Duration {
        self.started_unix + self.started.elapsed()
    }

    /// Puts a request on the bill and decides what is done about it.
    ///
    /// # Errors
    /// When the bill can't be written: then nothing may be answered.
    pub(super) fn receive(&self, arrival: &Arrival<'_>) -> std::io::Result<Plan> {
        let asked = Asked::read(arrival);
        let mut state = self.state();
        // Under the lock: the bill's order is that of its times.
        let now = self.started.elapsed();
        state.in_flight += 1;
        let entry = self.entry(&state, arrival, &asked, now);
        let (seed, n) = (state.script.seed, entry.n);
        if let Err(error) = state.bill.write(entry.clone()) {
            state.in_flight -= 1;
            return Err(error);
        }
        let mut chance = Chance::of(&[seed, n]);
        let mut plan = Plan {
            entry,
            reply: Reply::Good(Value::Null),
            then: Then::Answer,
            latency: Duration::ZERO,
        };
        if let Some(refused) = self.refused(&mut state, arrival, &asked, now) {
            plan.reply = Reply::Bad(refused);
            plan.entry.event = Event::Answered;
            return Ok(plan);
        }
        let rule = state.rule(&plan.entry, arrival);
        let (latency, billed) = match &rule {
            None => (state.script.latency.clone(), None),
            Some((name, rule)) => {
                plan.entry.rule = Some(name.clone());
                plan.then = rule.then.clone();
                let latency = rule.latency.clone();
                (
                    latency.unwrap_or_else(|| state.script.latency.clone()),
                    rule.billed,
                )
            }
        };
        plan.reply = state.reply(asked, &plan.then);
        if let Reply::Good(body) = &plan.reply {
            let usage = |name: &str| body["usage"][name].as_u64();
            plan.entry.prompt_tokens = usage("prompt_tokens").unwrap_or(plan.entry.prompt_tokens);
            plan.entry.completion_tokens = usage("completion_tokens").unwrap_or(0);
        }
        let is_good = matches!(plan.reply, Reply::Good(_));
        plan.entry.billed = billed.unwrap_or(is_good && plan.then != Then::Hang);
        state.admitted.settle(if plan.entry.billed {
            plan.entry.prompt_tokens + plan.entry.completion_tokens
        } else {
            0
        });
        plan.latency = latency.sample(&mut chance, plan.entry.completion_tokens);
        if plan.then == Then::NoUsage
            && let Reply::Good(Value::Object(body)) = &mut plan.reply
        {
            body.remove("usage");
        }
        plan.entry.event = Event::Answered;
        Ok(plan)
    }

    fn entry(&self, state: &State, arrival: &Arrival<'_>, asked: &Asked, now: Duration) -> Entry {
        let (model, task, prompt_tokens) = match asked {
            Asked::Chat(chat) => (
                Some(chat.model.clone()),
                Some(chat.task.clone()).filter(|task| !task.is_empty()),
                chat.prompt_tokens(),
            ),
            Asked::Embeddings(request) => {
                (Some(request.model.clone()), None, request.prompt_tokens())
            }
            Asked::Wrong(_) => (None, None, 0),
        };
        Entry {
            event: Event::Received,
            n: state.bill.next_number(),
            at_ms: millis(now),
            unix_ms: millis(self.started_unix + now),
            endpoint: match arrival.endpoint {
                Endpoint::Chat => "chat".to_owned(),
                Endpoint::Embeddings => "embeddings".to_owned(),
            },
            call: arrival.call.clone(),
            authorization: arrival.authorization.is_some(),
            request_sha256: format!("{:x}", Sha256::digest(arrival.body)),
            model,
            task,
            prompt_tokens,
            completion_tokens: 0,
            billed: false,
            status: None,
            rule: None,
            client_left: false,
            in_flight: state.in_flight,
        }
    }

    /// Why a request is not even looked at.
    fn refused(
        &self,
        state: &mut State,
        arrival: &Arrival<'_>,
        asked: &Asked,
        now: Duration,
    ) -> Option<Failure> {
        if let Some(key) = &self.api_key
            && arrival
                .authorization
                .and_then(|given| given.strip_prefix("Bearer "))
                != Some(key)
        {
            let message = "Incorrect API key provided.";
            return Some(failure::failure(401, "invalid_api_key", message));
        }
        state.script_requests += 1;
        // A reservation, as services take it: the prompt, and the most that may be answered.
        let tokens = match asked {
            Asked::Chat(chat) => chat.prompt_tokens() + chat.cap.unwrap_or(0),
            Asked::Embeddings(request) => request.prompt_tokens(),
            Asked::Wrong(_) => 0,
        };
        let in_flight = state.in_flight;
        let limits = state.script.limits.clone();
        let too_many = state
            .admitted
            .admit(&limits, now, tokens, in_flight)
            .err()?;
        let message = format!("Rate limit reached for {}. Please try again.", too_many.of);
        Some(Failure {
            retry_after: Some(too_many.wait.max(Duration::from_millis(1))),
            retry_form: RetryForm::Milliseconds,
            ..failure::failure(429, "rate_limit_exceeded", message)
        })
    }

    /// Writes the end of a request; `status` is what its client is sent.
    pub(super) fn answered(
        &self,
        plan: &mut Plan,
        status: Option<u16>,
        client_left: bool,
    ) -> std::io::Result<()> {
        let mut state = self.state();
        let now = self.started.elapsed();
        let entry = &mut plan.entry;
        entry.at_ms = millis(now);
        entry.unix_ms = millis(self.started_unix + now);
        entry.status = status;
        entry.client_left = client_left;
        entry.in_flight = state.in_flight;
        state.bill.write(entry.clone())
    }

    /// A request is no longer in the server.
    pub(super) fn left(&self) {
        self.state().in_flight -= 1;
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What a request asks for.
enum Asked {
    Chat(Box<Chat>),
    Embeddings(embedding::Request),
    Wrong(String),
}

impl Asked {
    fn read(arrival: &Arrival<'_>) -> Self {
        match arrival.endpoint {
            Endpoint::Chat => {
                Chat::read(arrival.body).map_or_else(Self::Wrong, |chat| Self::Chat(Box::new(chat)))
            }
            Endpoint::Embeddings => {
                embedding::Request::read(arrival.body).map_or_else(Self::Wrong, Self::Embeddings)
            }
        }
    }
}

impl State {
    /// The first rule that fits, with its name.
    fn rule(&mut self, entry: &Entry, arrival: &Arrival<'_>) -> Option<(String, Rule)> {
        let body = String::from_utf8_lossy(arrival.body);
        for (index, rule) in self.script.rules.iter().enumerate() {
            let number = self.script_requests;
            let sight = Sight {
                number,
                attempt: self.bill.attempts(&entry.request_sha256),
                since: self.script_since.elapsed(),
                task: entry.task.as_deref().unwrap_or_default(),
                body: &body,
                chance: Chance::of(&[self.script.seed, index as u64 + 1, number]).fraction(),
                played: self.played[index],
            };
            if rule.when.holds(&sight) {
                self.played[index] += 1;
                let name = rule.name.clone();
                return Some((
                    name.unwrap_or_else(|| (index + 1).to_string()),
                    rule.clone(),
                ));
            }
        }
        None
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "every other behaviour has its place elsewhere"
    )]
    fn reply(&mut self, asked: Asked, then: &Then) -> Reply {
        let context = self.script.context;
        match then {
            Then::Fail(failure) => return Reply::Bad(failure.clone()),
            Then::InsufficientQuota => return Reply::Bad(failure::insufficient_quota()),
            Then::CreditBalanceTooLow => return Reply::Bad(failure::credit_balance()),
            Then::ContextLengthExceeded => {
                let context = context.unwrap_or(4096);
                return Reply::Bad(failure::context_length(context + 1, context));
            }
            _ => {}
        }
        match asked {
            Asked::Wrong(why) => Reply::Bad(failure::failure(400, "invalid_request", why)),
            Asked::Embeddings(request) => Reply::Good(request.answer()),
            Asked::Chat(chat) => self.completion(*chat, then),
        }
    }

    /// Whether an answer is bound to the schema of its format, or why the format is refused.
    fn format(&self, chat: &Chat) -> Result<bool, Failure> {
        let asked = &chat.format;
        let supported = &self.script.supports.0;
        let Some(needed) = asked.needs() else {
            let message = format!("Invalid value: '{}'.", asked.name);
            return Err(failure::failure(400, "invalid_value", message));
        };
        let plain = needed == Format::JsonObject && supported.contains(&Format::JsonObjectPlain);
        if !supported.contains(&needed) && !plain {
            let name = &asked.name;
            return match self.script.unsupported {
                Unsupported::Ignore => Ok(false),
                Unsupported::Error => {
                    let message = format!(
                        "Invalid parameter: 'response_format' of type '{name}' is not supported with this model."
                    );
                    Err(failure::failure(400, "unsupported_value", message))
                }
                Unsupported::LlamaCppPython => {
                    let message = format!(
                        "[{{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': \"Input should \
                         be 'text' or 'json_object'\", 'input': '{name}'}}]"
                    );
                    Err(failure::failure(500, "internal_server_error", message))
                }
            };
        }
        if asked.strict
            && let Some(what) = asked.schema.as_ref().and_then(schema::complaint)
        {
            let message = format!("Invalid schema for response_format: {what}");
            return Err(failure::failure(400, "invalid_json_schema", message));
        }
        Ok(!plain || supported.contains(&Format::JsonObject))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "every other behaviour has its place elsewhere"
    )]
    fn completion(&mut self, mut chat: Chat, then: &Then) -> Reply {
        let bound = match self.format(&chat) {
            Ok(bound) => bound,
            Err(failure) => return Reply::Bad(failure),
        };
        let mut prompt_tokens = chat.prompt_tokens();
        if let Some(context) = self.script.context
            && prompt_tokens + chat.cap.unwrap_or(0) > context
        {
            match self.script.context_overflow {
                Overflow::Error => {
                    let asked = prompt_tokens + chat.cap.unwrap_or(0);
                    return Reply::Bad(failure::context_length(asked, context));
                }
                Overflow::Silent => {
                    // The oldest words go first; what the answer is found in may be gone.
                    let kept = usize::try_from(prompt_tokens.min(context)).unwrap_or(usize::MAX);
                    if prompt_tokens > context {
                        chat.users.truncate(1);
                        for text in &mut chat.users {
                            *text = tail(text, kept.saturating_mul(4)).to_owned();
                        }
                    }
                    prompt_tokens = prompt_tokens.min(context);
                }
            }
        }
        let good = answer::answer(&chat, chat.format.schema.as_ref().filter(|_| bound));
        let mut content = spoil::content(then, good);
        let mut finish = match then {
            Then::Truncate => "length",
            Then::ContentFilter => "content_filter",
            _ => "stop",
        };
        if let Some(cap) = chat.cap
            && tokens(content.len()) > cap
        {
            let bytes = usize::try_from(cap).unwrap_or(usize::MAX).saturating_mul(4);
            content = spoil::upto(&content, bytes).to_owned();
            finish = "length";
        }
        let completion_tokens = tokens(content.len());
        let mut message = json!({"role": "assistant", "content": content});
        match then {
            Then::Refuse => {
                message["content"] = Value::Null;
                message["refusal"] = json!("I'm sorry, I can't assist with that request.");
            }
            Then::ContentFilter | Then::NullContent => message["content"] = Value::Null,
            _ => {}
        }
        let choices = match then {
            Then::NoChoices => json!([]),
            _ => {
                json!([{"index": 0, "message": message, "logprobs": null, "finish_reason": finish}])
            }
        };
        let mut usage = json!({
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        });
        if self.script.cached_tokens {
            let seen = !self.prefixes.insert(chat.system.clone());
            let cached = if seen {
                tokens(chat.system.len()).min(prompt_tokens)
            } else {
                0
            };
            usage["prompt_tokens_details"] = json!({"cached_tokens": cached});
        }
        Reply::Good(json!({
            "id": format!("chatcmpl-{}", self.bill.next_number() - 1),
            "object": "chat.completion",
            "created": 0,
            "model": chat.model,
            "choices": choices,
            "usage": usage,
        }))
    }
}

/// At most so many bytes of a text, from its end.
fn tail(text: &str, bytes: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}
