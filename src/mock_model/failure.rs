//! Errors in the forms that real servers give them.
//!
//! Knows statuses, bodies and headers; must not know when an error is due.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use chrono::{DateTime, Utc};
use serde_json::json;

use super::script::{BodyForm, Failure, RetryForm};

/// A failure of that status, in `OpenAI`'s form.
pub(super) fn failure(status: u16, code: &str, message: impl Into<String>) -> Failure {
    Failure {
        status,
        code: Some(code.to_owned()),
        message: Some(message.into()),
        body: BodyForm::Openai,
        retry_after: None,
        retry_form: RetryForm::Seconds,
    }
}

pub(super) fn insufficient_quota() -> Failure {
    let message = "You exceeded your current quota, please check your plan and billing details.";
    failure(429, "insufficient_quota", message)
}

pub(super) fn credit_balance() -> Failure {
    let message = "Your credit balance is too low to access the API. Please go to Plans & Billing to upgrade or \
                   purchase credits.";
    Failure {
        body: BodyForm::Anthropic,
        ..failure(400, "invalid_request_error", message)
    }
}

pub(super) fn context_length(tokens: u64, context: u64) -> Failure {
    let message = format!(
        "This model's maximum context length is {context} tokens. However, your messages resulted in {tokens} tokens. \
         Please reduce the length of the messages."
    );
    failure(400, "context_length_exceeded", message)
}

/// What stands in `error.code` and `error.message` when a script does not say.
fn usual(status: u16) -> (&'static str, &'static str) {
    match status {
        400 => ("invalid_request", "The request is not valid."),
        401 => ("invalid_api_key", "Incorrect API key provided."),
        402 => ("payment_required", "Payment is required."),
        403 => (
            "forbidden",
            "You are not allowed to generate from this model.",
        ),
        404 => ("model_not_found", "The model does not exist."),
        408 => ("request_timeout", "The request timed out."),
        409 => ("conflict", "The request conflicts with another one."),
        413 => ("request_too_large", "The request is too large."),
        422 => ("unprocessable", "The request can't be processed."),
        425 => ("too_early", "The server is not ready to replay a request."),
        429 => (
            "rate_limit_exceeded",
            "Rate limit reached for requests. Please try again later.",
        ),
        503 => ("unavailable", "The engine is currently overloaded."),
        529 => ("overloaded_error", "Overloaded"),
        _ => ("server_error", "The server had an error."),
    }
}

fn kind(status: u16, code: &str) -> &str {
    match status {
        429 if code == "insufficient_quota" => code,
        429 => "requests",
        500..=599 => "server_error",
        _ => "invalid_request_error",
    }
}

/// The answer that a failure is; `now` is for the form with a date.
pub(super) fn response(failure: &Failure, now: DateTime<Utc>) -> Response {
    let (usual_code, usual_message) = usual(failure.status);
    let code = failure.code.as_deref().unwrap_or(usual_code);
    let message = failure.message.as_deref().unwrap_or(usual_message);
    let status = failure.status;
    let (content_type, body) = match failure.body {
        BodyForm::Openai => (
            "application/json",
            json!({"error": {"message": message, "type": kind(status, code), "param": null, "code": code}})
                .to_string(),
        ),
        BodyForm::Anthropic => (
            "application/json",
            json!({"type": "error", "error": {"type": code, "message": message}}).to_string(),
        ),
        BodyForm::Text => ("text/plain; charset=utf-8", message.to_owned()),
        BodyForm::Html => (
            "text/html",
            format!(
                "<html>\r\n<head><title>{status}</title></head>\r\n<body><center><h1>{message}</h1></center></body>\r\n\
                 </html>\r\n"
            ),
        ),
        BodyForm::Empty => ("text/plain", String::new()),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(wait) = failure.retry_after {
        tell(headers, failure.retry_form, wait, now);
    }
    response
}

/// Tells a client how long to wait.
fn tell(headers: &mut HeaderMap, form: RetryForm, wait: Duration, now: DateTime<Utc>) {
    // A client that waits as told has waited long enough.
    let seconds = wait.as_millis().div_ceil(1000);
    let (name, value) = match form {
        RetryForm::Seconds => ("retry-after", seconds.to_string()),
        RetryForm::Date => {
            let until = now + wait + Duration::from_millis(999);
            let date = until.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            ("retry-after", date)
        }
        RetryForm::Milliseconds => ("retry-after-ms", wait.as_millis().to_string()),
        RetryForm::Reset => ("x-ratelimit-reset-requests", go_duration(wait)),
    };
    if let Ok(value) = HeaderValue::from_str(&value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// A duration as Go writes it: `6m0s`, `1.5s`, `20ms`.
fn go_duration(wait: Duration) -> String {
    let millis = wait.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let fraction = match rest % 1000 {
        0 => String::new(),
        thousandths => format!(".{thousandths:03}")
            .trim_end_matches('0')
            .to_owned(),
    };
    let seconds = format!("{}{fraction}s", rest / 1000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (millis, text) in [
            (20, "20ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (360_000, "6m0s"),
            (3_661_000, "1h1m1s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }
}
