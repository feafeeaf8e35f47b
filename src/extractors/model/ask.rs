//! Asking a model until its answer can be used: the dialect of its server, the reading, the one word back, another
//! sample.
//!
//! Knows what a list of items is, and nothing of names or relations. Everything goes through [`Calls`]: what was
//! answered before is answered from there, so that this may be begun anew at any time and costs nothing twice.
//! Invariant: a question is asked a bounded number of times.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Mutex;
use tracing::{debug, info};

use super::{
    super::{Answer, CallError, Calls, ExtractError, Refusal, UnitName},
    ModelSettings,
    answer::{self, End},
    dialect::{Dialect, Form, Heard, Question, heard},
    prompt::Prompt,
    salvage,
};

/// What to ask, and what an answer must look like.
pub(super) struct Task<'a> {
    /// The prompt that `system` was made of.
    pub(super) prompt: Prompt<'a>,
    /// What is the same for every chunk.
    pub(super) system: &'a str,
    /// What is asked now.
    pub(super) user: String,
    /// The answer's schema.
    pub(super) schema: String,
    /// The name of the list in the answer.
    pub(super) list: &'static str,
    /// Whether an item has the form that was asked for.
    pub(super) is_item: fn(&Value) -> bool,
    /// What that form is, for the model.
    pub(super) item: &'static str,
}

/// What came of it.
pub(super) enum Reply {
    /// Items, each of the right form.
    Items {
        /// They.
        items: Vec<Value>,
        /// How many had another form.
        malformed: u32,
        /// The answer broke off: more would have come.
        cut_off: bool,
    },
    /// The question is too long for the model.
    TooLong(String),
}

/// A way to a model, and what is known of the server behind it.
pub(super) struct Door {
    calls: Arc<dyn Calls>,
    settings: ModelSettings,
    dialect: Mutex<Option<Dialect>>,
}

/// How a question is asked: which sample, and whether it says what was wrong before. Another try of either kind is
/// another request, and so has its own place in the ledger.
const TRIES: [(u32, bool); 3] = [(0, false), (0, true), (1, false)];

impl Door {
    pub(super) fn new(calls: Arc<dyn Calls>, settings: ModelSettings) -> Self {
        Self {
            calls,
            settings,
            dialect: Mutex::new(None),
        }
    }

    /// The prompt to ask with: the built-in one, or what takes its place.
    pub(super) fn prompt<'a>(&'a self, built_in: Prompt<'a>) -> Prompt<'a> {
        self.calls.prompt().map_or(built_in, Prompt::new)
    }

    /// The way to the model.
    pub(super) fn calls(&self) -> &dyn Calls {
        &*self.calls
    }

    /// Asks until an answer can be used.
    pub(super) async fn ask(
        &self,
        unit: &UnitName,
        task: &Task<'_>,
    ) -> Result<Reply, ExtractError> {
        let mut problem = String::new();
        for (sample, says_why) in TRIES {
            let told;
            let user = if says_why {
                told = format!(
                    "{}\n\nYour answer to this could not be used: {problem} Answer again, with the JSON object only.",
                    task.user
                );
                &told
            } else {
                &task.user
            };
            let answer = match self.send(unit, task, user, sample).await {
                Ok(answer) => answer,
                Err(CallError::Refused {
                    why: Refusal::ContextOverflow,
                    message,
                }) => return Ok(Reply::TooLong(message)),
                Err(error) => return Err(error.into()),
            };
            match read(&answer, task)? {
                Ok(reply) => return Ok(reply),
                Err(what) => {
                    // The answer itself is nobody's business but the ledger's.
                    debug!(unit = %unit, prompt = task.prompt.id(), sample, problem = what, "an answer is unusable");
                    problem = what;
                }
            }
        }
        Err(ExtractError::Terminal(format!(
            "the model gave no usable answer to `{}` in {} tries: {problem}",
            task.prompt.id(),
            TRIES.len()
        )))
    }

    /// Sends a question, in a dialect that the server understands.
    async fn send(
        &self,
        unit: &UnitName,
        task: &Task<'_>,
        user: &str,
        sample: u32,
    ) -> Result<Answer, CallError> {
        let question = Question {
            prompt: task.prompt,
            system: task.system,
            user,
            schema: &task.schema,
            sample,
            cap: self.settings.max_output_tokens,
        };
        let mut dialect = self.dialect(unit).await?;
        loop {
            let request = dialect
                .request(self.calls.model(), &question)
                .map_err(|_| unwritable())?;
            let refused = match self.calls.call(unit, &request).await {
                Err(CallError::Refused { why, message }) => (why, message),
                other => return other,
            };
            // A server may have changed since it was probed, and a schema may be too much for one that took the
            // probe's.
            let (why, message) = refused;
            let Some(next) = dialect.without(why) else {
                return Err(CallError::Refused { why, message });
            };
            dialect = next;
            self.keep(dialect).await?;
        }
    }

    /// What the server understands: as it is known here, as it is remembered, or as a probe shows.
    async fn dialect(&self, unit: &UnitName) -> Result<Dialect, CallError> {
        // Held while probing: others wait for the same answer.
        let mut known = self.dialect.lock().await;
        if let Some(dialect) = *known {
            return Ok(dialect);
        }
        let remembered = self.calls.recall().await?;
        // What cannot be read was written by another version, and is found anew.
        let recalled = remembered.and_then(|text| serde_json::from_str(&text).ok());
        let dialect = if let Some(dialect) = recalled {
            dialect
        } else {
            let (dialect, is_sure) = self.probe(unit).await?;
            if is_sure {
                self.remember(dialect).await?;
            }
            dialect
        };
        *known = Some(dialect);
        Ok(dialect)
    }

    /// Down the ladder until a rung holds; and whether the server answered at all, for else nothing is known.
    async fn probe(&self, unit: &UnitName) -> Result<(Dialect, bool), CallError> {
        let mut dialect = Dialect::first();
        let mut is_sure = false;
        while dialect.form != Form::Prompt {
            let request = dialect
                .probe(self.calls.model(), self.settings.max_output_tokens)
                .map_err(|_| unwritable())?;
            let down = match self.calls.call(unit, &request).await {
                Ok(answer) => {
                    is_sure = true;
                    match heard(&answer.body) {
                        Heard::TheWord => break,
                        // The key that it ignores is left out.
                        Heard::Json if dialect.form != Form::JsonSchema => {
                            dialect.form = Form::Object;
                            break;
                        }
                        Heard::Json | Heard::Nothing => dialect.form.next(),
                    }
                }
                Err(CallError::Refused { why, message }) => match why {
                    Refusal::OutputCap | Refusal::Temperature => {
                        let next = dialect.without(why);
                        dialect = next.ok_or(CallError::Refused { why, message })?;
                        continue;
                    }
                    // Some servers do not say what it is that they do not take.
                    Refusal::Unsupported | Refusal::Request => dialect.form.next(),
                    Refusal::ContextOverflow | Refusal::NotFound => {
                        return Err(CallError::Refused { why, message });
                    }
                },
                Err(error) => return Err(error),
            };
            dialect.form = down.unwrap_or(Form::Prompt);
        }
        info!(
            model = self.calls.model(),
            form = ?dialect.form,
            new_cap = dialect.new_cap,
            temperature = dialect.temperature,
            "found how the model's server takes a schema"
        );
        Ok((dialect, is_sure))
    }

    async fn keep(&self, dialect: Dialect) -> Result<(), CallError> {
        *self.dialect.lock().await = Some(dialect);
        self.remember(dialect).await
    }

    async fn remember(&self, dialect: Dialect) -> Result<(), CallError> {
        let text = serde_json::to_string(&dialect).map_err(|_| unwritable())?;
        self.calls.remember(&text).await
    }
}

/// Cannot happen with the types and schemas of this room; a unit that it happens to is not tried again.
fn unwritable() -> CallError {
    CallError::Refused {
        why: Refusal::Request,
        message: "the request can't be written as JSON".to_owned(),
    }
}

/// The items of an answer, or what is wrong with it, for the model.
fn read(answer: &Answer, task: &Task<'_>) -> Result<Result<Reply, String>, ExtractError> {
    let Some(completion) = answer::read(&answer.body) else {
        return Ok(Err("it was no chat completion.".to_owned()));
    };
    if completion.end == End::Refused {
        return Err(ExtractError::Terminal(format!(
            "the model, or a filter of its server, refuses to answer `{}`",
            task.prompt.id()
        )));
    }
    let cut_off = completion.end == End::CutOff;
    let salvaged = salvage::salvage(&completion.content, task.list);
    let read = salvaged.items.len();
    let items: Vec<Value> = salvaged.items.into_iter().filter(task.is_item).collect();
    let malformed = u32::try_from(read - items.len()).unwrap_or(u32::MAX);
    let malformed = malformed.saturating_add(salvaged.broken);
    if cut_off || (!items.is_empty() || salvaged.whole && malformed == 0) {
        return Ok(Ok(Reply::Items {
            items,
            malformed,
            cut_off,
        }));
    }
    Ok(Err(if !salvaged.found {
        format!("it held no JSON object with the list \"{}\".", task.list)
    } else if read == 0 {
        format!("the list \"{}\" was not complete JSON.", task.list)
    } else {
        format!("each item of \"{}\" must be {}.", task.list, task.item)
    }))
}

impl From<CallError> for ExtractError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Wait {
                reason,
                wait,
                cause,
            } => Self::Wait {
                reason,
                wait,
                cause,
            },
            CallError::Pause { reason } => Self::Pause { reason },
            CallError::Transient(message) => Self::Transient(message),
            CallError::Refused { message, .. } => Self::Terminal(message),
        }
    }
}
