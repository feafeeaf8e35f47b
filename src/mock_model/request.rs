//! A request, as far as an answer depends on it.
//!
//! Knows the form of requests; must not know answers.

use serde::Deserialize;
use serde_json::Value;

use super::script::Format;

/// How the first line of the system message tells the task.
const TASK: &str = "graphmill task:";

/// A chat request.
#[derive(Debug, Clone)]
pub(super) struct Chat {
    pub(super) model: String,
    /// Without its version; empty when none is told.
    pub(super) task: String,
    /// Every system message.
    pub(super) system: String,
    /// The user messages, the last one first.
    pub(super) users: Vec<String>,
    /// Bytes of all messages.
    pub(super) prompt_bytes: usize,
    pub(super) format: AskedFormat,
    /// The most tokens that the answer may have.
    pub(super) cap: Option<u64>,
}

/// The `response_format` of a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AskedFormat {
    /// As the request has it: `json_schema`, `json_object`, `text`.
    pub(super) name: String,
    /// The schema, where a server would look for it.
    pub(super) schema: Option<Value>,
    /// Whether the schema is to be kept to strictly.
    pub(super) strict: bool,
}

impl AskedFormat {
    /// The form that a server must support for it.
    pub(super) fn needs(&self) -> Option<Format> {
        match &*self.name {
            "json_schema" => Some(Format::JsonSchema),
            "json_object" => Some(Format::JsonObject),
            "text" => Some(Format::Text),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Body {
    model: String,
    messages: Vec<Message>,
    response_format: Option<Value>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    #[serde(default)]
    stream: bool,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Deserialize)]
struct ContentPart {
    #[serde(default)]
    text: String,
}

impl Content {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parts(parts) => parts.into_iter().map(|part| part.text).collect(),
        }
    }
}

impl Chat {
    /// Reads the body of a request, or says what is wrong with it.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let body: Body = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if body.messages.is_empty() {
            return Err("`messages` is empty".to_owned());
        }
        if body.stream {
            return Err("`stream` is not supported here".to_owned());
        }
        let mut chat = Self {
            model: body.model,
            task: String::new(),
            system: String::new(),
            users: Vec::new(),
            prompt_bytes: 0,
            format: asked_format(body.response_format.as_ref())?,
            cap: body.max_completion_tokens.or(body.max_tokens),
        };
        for message in body.messages {
            let text = message.content.map_or(String::new(), Content::text);
            chat.prompt_bytes += text.len();
            match &*message.role {
                "system" | "developer" => chat.system.push_str(&text),
                "user" => chat.users.push(text),
                _ => {}
            }
        }
        chat.users.reverse();
        chat.task = task_of(&chat.system);
        Ok(chat)
    }

    pub(super) fn prompt_tokens(&self) -> u64 {
        tokens(self.prompt_bytes)
    }
}

/// Tokens of a text of so many bytes.
///
/// **Source:** four bytes a token, a common rule of thumb for English.
pub(super) fn tokens(bytes: usize) -> u64 {
    bytes.div_ceil(4) as u64
}

fn task_of(system: &str) -> String {
    let line = system.lines().next().unwrap_or_default();
    let task = line.strip_prefix(TASK).unwrap_or_default().trim();
    task.split('@').next().unwrap_or_default().to_owned()
}

fn asked_format(format: Option<&Value>) -> Result<AskedFormat, String> {
    let text = |name: &str| AskedFormat {
        name: name.to_owned(),
        schema: None,
        strict: false,
    };
    let Some(format) = format.filter(|format| !format.is_null()) else {
        return Ok(text("text"));
    };
    let name = format["type"]
        .as_str()
        .ok_or("`response_format.type` is missing")?;
    let mut asked = text(name);
    match name {
        "json_schema" => {
            let inner = &format["json_schema"];
            asked.schema = inner.get("schema").cloned();
            asked.strict = inner["strict"].as_bool().unwrap_or(false);
        }
        "json_object" => asked.schema = format.get("schema").cloned(),
        _ => {}
    }
    Ok(asked)
}
