//! A call of a model as a span, in the words that OpenTelemetry has for it.
//!
//! Must not say what was asked or answered. **Source:** OpenTelemetry's semantic conventions for generative AI.

use graphmill_jobs::LlmCallId;

use super::Question;
use crate::{
    extractors::{TransportError, Verdict},
    telemetry::{Does, Span},
};

/// Begins the span of a call, below the attempt that makes it.
pub(super) fn of(question: &Question, id: LlmCallId) -> Span {
    let caller = &question.door.caller;
    let Some(parent) = caller.trace else {
        return Span::none();
    };
    let (operation, model) = (question.operation(), &caller.model.name);
    let mut span = Span::begin(format!("{operation} {model}"), Does::Ask, Some(parent));
    span.set("gen_ai.operation.name", operation);
    span.set("gen_ai.request.model", model.clone());
    let most = i64::try_from(question.request.max_output_tokens);
    span.set("gen_ai.request.max_tokens", most.unwrap_or(i64::MAX));
    span.set("graphmill.call.id", id.to_string());
    span.set("graphmill.batch.id", caller.batch.to_string());
    span.set("graphmill.execution.id", caller.execution.to_string());
    span.set("graphmill.stage", question.stage);
    span.set("graphmill.unit", i64::from(question.unit));
    span
}

/// A whole response came.
pub(super) fn came(mut span: Span, status: u16, verdict: &Verdict) {
    span.set("http.response.status_code", i64::from(status));
    let outcome = match verdict {
        Verdict::Answered(usage) => {
            for (name, tokens) in [
                ("gen_ai.usage.input_tokens", usage.prompt_tokens),
                ("gen_ai.usage.output_tokens", usage.completion_tokens),
            ] {
                if let Some(tokens) = tokens {
                    span.set(name, i64::try_from(tokens).unwrap_or(i64::MAX));
                }
            }
            "answered"
        }
        Verdict::Throttled => "throttled",
        Verdict::Blocked { .. } => "blocked",
        Verdict::Refused { .. } => "refused",
        Verdict::Failed { .. } => "failed",
    };
    span.set("graphmill.outcome", outcome);
    if !matches!(verdict, Verdict::Answered(_)) {
        span.fail(status.to_string());
    }
}

/// No whole response came.
pub(super) fn broke_off(mut span: Span, error: &TransportError) {
    span.set("graphmill.outcome", "broken");
    span.fail(match error {
        TransportError::Connect(_) => "connect",
        TransportError::Broken(_) => "broken",
        TransportError::TimedOut(_) => "timeout",
    });
}
