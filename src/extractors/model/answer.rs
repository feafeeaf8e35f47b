//! What a chat completion holds: the text of the answer, and how it ended.
//!
//! Tolerant of whatever servers leave out or add. Knows nothing of what was asked.

use serde_json::Value;

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By itself.
    Stopped,
    /// At the cap of its tokens, or of the context.
    CutOff,
    /// The model refuses, or a filter does.
    Refused,
}

/// A completion.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Completion {
    /// What the model wrote.
    pub(super) content: String,
    /// How it ended.
    pub(super) end: End,
}

/// Reads the body of a complete answer; `None` if it is none.
pub(super) fn read(body: &[u8]) -> Option<Completion> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let choice = body.pointer("/choices/0")?;
    let message = choice.get("message")?;
    let refuses = message
        .get("refusal")
        .and_then(Value::as_str)
        .is_some_and(|refusal| !refusal.is_empty());
    let end = match choice.get("finish_reason").and_then(Value::as_str) {
        _ if refuses => End::Refused,
        Some("content_filter" | "refusal" | "safety" | "SAFETY") => End::Refused,
        Some("length" | "max_tokens" | "MAX_TOKENS" | "model_length") => End::CutOff,
        _ => End::Stopped,
    };
    let content = match message.get("content") {
        Some(Value::String(content)) => content.clone(),
        // Some gateways give it in parts.
        Some(Value::Array(parts)) => parts
            .iter()
            .filter_map(|part| part.get("text").and_then(Value::as_str))
            .collect(),
        _ => String::new(),
    };
    Some(Completion { content, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_is_told_apart() {
        for (choice, content, end) in [
            (
                r#"{"message":{"content":"x"},"finish_reason":"stop"}"#,
                "x",
                End::Stopped,
            ),
            (r#"{"message":{"content":"x"}}"#, "x", End::Stopped),
            (
                r#"{"message":{"content":"x"},"finish_reason":"length"}"#,
                "x",
                End::CutOff,
            ),
            (
                r#"{"message":{"content":null},"finish_reason":"content_filter"}"#,
                "",
                End::Refused,
            ),
            (
                r#"{"message":{"content":null,"refusal":"No."},"finish_reason":"stop"}"#,
                "",
                End::Refused,
            ),
            (
                r#"{"message":{"content":"x","refusal":null},"finish_reason":"stop"}"#,
                "x",
                End::Stopped,
            ),
            (
                r#"{"message":{"content":[{"type":"text","text":"x"},{"text":"y"},{}]}}"#,
                "xy",
                End::Stopped,
            ),
            (
                r#"{"message":{"tool_calls":[]},"finish_reason":"tool_calls"}"#,
                "",
                End::Stopped,
            ),
        ] {
            let body = format!(r#"{{"choices":[{choice}]}}"#);
            let wanted = Completion {
                content: content.to_owned(),
                end,
            };
            assert_eq!(read(body.as_bytes()), Some(wanted), "{choice}");
        }
        for body in ["", "{}", r#"{"choices":[]}"#, r#"{"choices":[{}]}"#] {
            assert_eq!(read(body.as_bytes()), None);
        }
    }
}
