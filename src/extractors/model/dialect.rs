//! Which form of request a server understands: how it is held to a schema, what it calls the cap of tokens, whether
//! a temperature may be set.
//!
//! It is found by asking for a word that no model would pick: who gives it back obeys the schema, and who does not
//! would have ignored it without a word. Invariant: a step leads to another dialect, and never back.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    super::{CallRequest, Operation, Refusal},
    answer::{self, End},
    prompt::{self, Prompt},
    salvage,
};

/// How an answer is held to its form, the strictest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Form {
    /// `response_format` of type `json_schema`, strict.
    JsonSchema,
    /// `response_format` of type `json_object` with a `schema`, as llama.cpp has it.
    ObjectWithSchema,
    /// `response_format` of type `json_object`; the schema stands in the prompt.
    Object,
    /// The schema stands in the prompt.
    Prompt,
}

/// What a server understands, as it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dialect {
    /// How an answer is held to its form.
    pub(super) form: Form,
    /// The cap is called `max_completion_tokens`, not `max_tokens`.
    pub(super) new_cap: bool,
    /// A temperature may be set.
    pub(super) temperature: bool,
}

/// What an answer to the probe shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The word that only the schema knows.
    TheWord,
    /// JSON, but another word.
    Json,
    /// Anything else.
    Nothing,
}

/// A word that nobody answers with who was not made to.
const WORD: &str = "quoll_thimble_91";

/// The temperature at which an answer is asked for again: at 0 it would be the same one.
///
/// **Source:** half of what servers have by default; enough for another answer, and little enough for a sober one.
const AGAIN: f32 = 0.5;

/// What is to be asked, whatever the dialect.
#[derive(Debug)]
pub(super) struct Question<'a> {
    /// The prompt that `system` was made of.
    pub(super) prompt: Prompt<'a>,
    /// What is the same for every chunk.
    pub(super) system: &'a str,
    /// What is asked now.
    pub(super) user: &'a str,
    /// The answer's schema, in canonical form.
    pub(super) schema: &'a str,
    /// 0, or more when another answer is wanted.
    pub(super) sample: u32,
    /// The cap of the answer's tokens.
    pub(super) cap: u64,
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: [Message<'a>; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Format<'a>>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format<'a> {
    JsonSchema {
        json_schema: Named<'a>,
    },
    JsonObject {
        #[serde(skip_serializing_if = "Option::is_none")]
        schema: Option<&'a RawValue>,
    },
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    strict: bool,
    schema: &'a RawValue,
}

impl Dialect {
    /// What is tried first: what most servers take.
    pub(super) const fn first() -> Self {
        Self {
            form: Form::JsonSchema,
            new_cap: false,
            temperature: true,
        }
    }

    /// The next dialect to try for a server that refuses this one; `None` if it is not the dialect that is at fault,
    /// or none is left.
    pub(super) fn without(self, why: Refusal) -> Option<Self> {
        match why {
            Refusal::Unsupported => Some(Self {
                form: self.form.next()?,
                ..self
            }),
            Refusal::OutputCap => (!self.new_cap).then_some(Self {
                new_cap: true,
                ..self
            }),
            Refusal::Temperature => self.temperature.then_some(Self {
                temperature: false,
                ..self
            }),
            Refusal::ContextOverflow | Refusal::NotFound | Refusal::Request => None,
        }
    }

    /// The request that asks `question` of `model`: the same question is the same bytes.
    pub(super) fn request(
        self,
        model: &str,
        question: &Question<'_>,
    ) -> Result<CallRequest, serde_json::Error> {
        if self.form == Form::JsonSchema {
            return self.written(model, question, question.system);
        }
        let (system, schema) = (question.system.trim_end(), question.schema);
        let system = format!("{system}\n\nThe JSON schema of the answer is:\n{schema}\n");
        self.written(model, question, &system)
    }

    fn written(
        self,
        model: &str,
        question: &Question<'_>,
        system: &str,
    ) -> Result<CallRequest, serde_json::Error> {
        let schema: &RawValue = serde_json::from_str(question.schema)?;
        let id = question.prompt.id();
        let temperature = if question.sample == 0 { 0.0 } else { AGAIN };
        let body = Body {
            model,
            messages: [
                Message {
                    role: "system",
                    content: system,
                },
                Message {
                    role: "user",
                    content: question.user,
                },
            ],
            temperature: self.temperature.then_some(temperature),
            max_tokens: (!self.new_cap).then_some(question.cap),
            max_completion_tokens: self.new_cap.then_some(question.cap),
            response_format: match self.form {
                Form::JsonSchema => Some(Format::JsonSchema {
                    json_schema: Named {
                        name: id.split('@').next().unwrap_or(id),
                        strict: true,
                        schema,
                    },
                }),
                Form::ObjectWithSchema => Some(Format::JsonObject {
                    schema: Some(schema),
                }),
                Form::Object => Some(Format::JsonObject { schema: None }),
                Form::Prompt => None,
            },
        };
        Ok(CallRequest {
            operation: Operation::Chat,
            body: serde_json::to_vec(&body)?,
            prompt: id.to_owned(),
            sample: question.sample,
            max_output_tokens: question.cap,
        })
    }

    /// The request that shows whether a server obeys a schema. In this one request the schema is not in the prompt.
    pub(super) fn probe(self, model: &str, cap: u64) -> Result<CallRequest, serde_json::Error> {
        let schema = format!(
            r#"{{"type":"object","properties":{{"word":{{"type":"string","enum":["{WORD}"]}}}},"required":["word"],"additionalProperties":false}}"#
        );
        let question = Question {
            prompt: prompt::PROBE,
            system: prompt::PROBE.text(),
            user: "What is the colour of a clear sky at noon?",
            schema: &schema,
            sample: 0,
            cap,
        };
        // Named in the prompt, the word would show nothing.
        self.written(model, &question, question.system)
    }
}

impl Form {
    /// The next rung down.
    pub(super) const fn next(self) -> Option<Self> {
        match self {
            Self::JsonSchema => Some(Self::ObjectWithSchema),
            Self::ObjectWithSchema => Some(Self::Object),
            Self::Object => Some(Self::Prompt),
            Self::Prompt => None,
        }
    }
}

/// What an answer to the probe shows.
pub(super) fn heard(body: &[u8]) -> Heard {
    let Some(completion) = answer::read(body).filter(|completion| completion.end == End::Stopped)
    else {
        return Heard::Nothing;
    };
    match salvage::object(&completion.content) {
        Some(object) if object.get("word").and_then(serde_json::Value::as_str) == Some(WORD) => {
            Heard::TheWord
        }
        Some(_) => Heard::Json,
        None => Heard::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(sample: u32) -> Question<'static> {
        Question {
            prompt: prompt::MENTIONS,
            system: "graphmill task: mentions@1\n",
            user: "<text>\nx\n</text>",
            schema: r#"{"b":1,"a":2}"#,
            sample,
            cap: 64,
        }
    }

    fn body(dialect: Dialect, sample: u32) -> String {
        let request = dialect.request("tiny", &question(sample)).unwrap();
        String::from_utf8(request.body).unwrap()
    }

    #[test]
    fn a_request_has_one_canonical_form() {
        assert_eq!(
            body(Dialect::first(), 0),
            concat!(
                r#"{"model":"tiny","messages":[{"role":"system","content":"graphmill task: mentions@1\n"},"#,
                r#"{"role":"user","content":"<text>\nx\n</text>"}],"temperature":0.0,"max_tokens":64,"#,
                r#""response_format":{"type":"json_schema","json_schema":{"name":"mentions","strict":true,"#,
                r#""schema":{"b":1,"a":2}}}}"#
            )
        );
        assert!(body(Dialect::first(), 1).contains(r#""temperature":0.5"#));
    }

    #[test]
    fn every_dialect_has_its_form() {
        let mut dialect = Dialect {
            new_cap: true,
            temperature: false,
            ..Dialect::first()
        };
        let mut seen = Vec::new();
        loop {
            let body = body(dialect, 0);
            assert!(
                body.contains(r#""max_completion_tokens":64"#) && !body.contains("temperature")
            );
            // The schema is given once: by the format, in the prompt, or both where servers differ.
            seen.push((
                body.contains("json_schema"),
                body.contains("json_object"),
                body.contains(r#""schema":{"b":1,"a":2}"#),
                body.contains("JSON schema of the answer"),
            ));
            match dialect.without(Refusal::Unsupported) {
                Some(next) => dialect = next,
                None => break,
            }
        }
        assert_eq!(
            seen,
            [
                (true, false, true, false),
                (false, true, true, true),
                (false, true, false, true),
                (false, false, false, true),
            ]
        );
        assert_eq!(dialect.without(Refusal::OutputCap), None);
        assert_eq!(dialect.without(Refusal::Temperature), None);
        assert_eq!(dialect.without(Refusal::Request), None);
    }

    #[test]
    fn the_word_is_in_the_schema_and_nowhere_else() {
        for (form, words) in [
            (Form::JsonSchema, 1),
            (Form::ObjectWithSchema, 1),
            (Form::Object, 0),
        ] {
            let dialect = Dialect {
                form,
                ..Dialect::first()
            };
            let probe = dialect.probe("tiny", 64).unwrap();
            let body = String::from_utf8(probe.body).unwrap();
            assert_eq!(body.matches(WORD).count(), words, "{body}");
            assert_eq!(probe.prompt, "probe@1");
        }
        let answer = |content: &str| {
            let body = serde_json::json!({"choices":[{"message":{"content": content},"finish_reason":"stop"}]});
            heard(body.to_string().as_bytes())
        };
        assert_eq!(answer(&format!(r#"{{"word":"{WORD}"}}"#)), Heard::TheWord);
        assert_eq!(answer(r#"```{"word":"blue"}```"#), Heard::Json);
        assert_eq!(answer("Blue."), Heard::Nothing);
    }
}
