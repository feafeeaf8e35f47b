//! The table of errors, row by row, with what real servers send.

use super::*;

fn of(status: u16, body: &str) -> Verdict {
    verdict(
        Operation::Chat,
        &Exchange {
            status,
            retry_after: None,
            body: body.as_bytes().to_vec(),
        },
    )
}

/// The verdict in a word.
fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Answered(_) => "answered",
        Verdict::Throttled => "throttled",
        Verdict::Blocked { .. } => "blocked",
        Verdict::Failed { .. } => "failed",
        Verdict::Refused { why, .. } => match why {
            Refusal::ContextOverflow => "overflow",
            Refusal::Unsupported => "format",
            Refusal::OutputCap => "cap",
            Refusal::Temperature => "temperature",
            Refusal::NotFound => "not found",
            Refusal::Request => "request",
        },
    }
}

const TABLE: &[(u16, &str, &str)] = &[
    (408, "", "failed"),
    (409, "", "failed"),
    (425, "", "failed"),
    (500, "", "failed"),
    (502, "<html>Bad gateway</html>", "failed"),
    (
        503,
        r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
        "failed",
    ),
    (
        529,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
        "failed",
    ),
    (429, "", "throttled"),
    (
        429,
        r#"{"error":{"message":"Rate limit reached for requests","type":"requests","code":"rate_limit_exceeded"}}"#,
        "throttled",
    ),
    (
        429,
        r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
        "blocked",
    ),
    (
        429,
        r#"{"error":{"code":"organization_spend_limit_exceeded"}}"#,
        "blocked",
    ),
    (
        429,
        r#"{"error":{"type":"monthly_usage_limit_exceeded"}}"#,
        "blocked",
    ),
    (
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}"#,
        "blocked",
    ),
    (
        500,
        r#"{"error":{"message":"Billing hard limit has been reached","code":null}}"#,
        "blocked",
    ),
    (
        503,
        r#"{"error":{"code":"credit_balance_exhausted"}}"#,
        "blocked",
    ),
    (
        401,
        r#"{"error":{"message":"Incorrect API key provided: sk-abc","code":"invalid_api_key"}}"#,
        "blocked",
    ),
    (402, "", "blocked"),
    (403, "", "blocked"),
    (407, "", "blocked"),
    (301, "", "blocked"),
    (400, "", "request"),
    (404, "", "not found"),
    (404, "404 page not found", "not found"),
    (
        404,
        r#"{"error":{"message":"Invalid URL (POST /v2/chat/completions)","type":"invalid_request_error"}}"#,
        "not found",
    ),
    (404, r#"{"detail":"Not Found"}"#, "not found"),
    (404, r#"{"error":{"code":"model_not_found"}}"#, "blocked"),
    (
        403,
        r#"{"error":{"message":"Project `p` does not have access to model `m`","type":"invalid_request_error","code":"model_not_found"}}"#,
        "blocked",
    ),
    // vLLM, old and new.
    (
        404,
        r#"{"object":"error","message":"The model `m` does not exist.","type":"NotFoundError","param":null,"code":404}"#,
        "blocked",
    ),
    (
        404,
        r#"{"error":{"message":"The model `m` does not exist.","type":"NotFoundError","param":"model","code":404}}"#,
        "blocked",
    ),
    // Ollama, old and new.
    (
        404,
        r#"{"error":{"message":"model \"m\" not found, try pulling it first","type":"api_error","param":null,"code":null}}"#,
        "blocked",
    ),
    (
        404,
        r#"{"error":{"message":"model 'm' not found","type":"not_found_error","param":null,"code":null}}"#,
        "blocked",
    ),
    // Anthropic and Gemini.
    (
        404,
        r#"{"type":"error","error":{"type":"not_found_error","message":"model: m"}}"#,
        "blocked",
    ),
    (
        404,
        r#"[{"error":{"code":404,"message":"models/m is not found for API version v1main, or is not supported","status":"NOT_FOUND"}}]"#,
        "blocked",
    ),
    // Mistral, DeepSeek, OpenRouter.
    (
        400,
        r#"{"object":"error","message":"Invalid model: m","type":"invalid_model","param":null,"code":"1500"}"#,
        "blocked",
    ),
    (
        400,
        r#"{"error":{"message":"Model Not Exist","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}"#,
        "blocked",
    ),
    (
        400,
        r#"{"error":{"message":"m is not a valid model ID","code":400}}"#,
        "blocked",
    ),
    // What it echoes is not what it says.
    (
        400,
        r#"{"error":{"message":"Bad content: 'the model does not exist, an invalid model: m'","code":400}}"#,
        "request",
    ),
    (405, "", "request"),
    (413, "", "overflow"),
    (422, "", "request"),
    (
        400,
        r#"{"error":{"message":"This model's maximum context length is 4096 tokens. However, you requested 5000","code":"context_length_exceeded","param":"messages"}}"#,
        "overflow",
    ),
    (
        400,
        r#"{"object":"error","message":"This model's maximum context length is 4096 tokens","code":400}"#,
        "overflow",
    ),
    (
        400,
        r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}"#,
        "overflow",
    ),
    (
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
        "overflow",
    ),
    (
        400,
        r#"[{"error":{"code":400,"message":"The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}]"#,
        "overflow",
    ),
    (
        400,
        r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}"#,
        "cap",
    ),
    (
        422,
        r#"{"detail":[{"type":"extra_forbidden","loc":["body","max_completion_tokens"],"msg":"Extra inputs are not permitted","input":7}]}"#,
        "cap",
    ),
    (
        400,
        r#"{"error":{"message":"Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.","param":"temperature","code":"unsupported_value"}}"#,
        "temperature",
    ),
    (
        400,
        r#"{"error":{"message":"Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.","param":null,"code":null}}"#,
        "format",
    ),
    (
        400,
        r#"{"error":{"message":"This response_format type is unavailable now"}}"#,
        "format",
    ),
    (
        400,
        r#"{"error":"'response_format.type' must be 'json_schema' or 'text'"}"#,
        "format",
    ),
    (
        500,
        r#"{"error":{"message":"[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': \"Input should be 'text' or 'json_object'\"","type":"internal_server_error"}}"#,
        "format",
    ),
    // What a validator was given is in its complaint, and is not looked at.
    (
        422,
        r#"{"detail":[{"loc":["body"],"msg":"Field required","input":"unsupported temperature, insufficient_quota, maximum context length"}]}"#,
        "request",
    ),
    (200, "<html>Sign in</html>", "failed"),
    (200, "", "failed"),
    (200, "[]", "failed"),
    (200, r#"{"choices":[]}"#, "failed"),
    (200, r#"{"choices":[{"message":null}]}"#, "failed"),
    (
        200,
        r#"{"choices":[{"message":{"content":"x"},"finish_reason":"error"}]}"#,
        "failed",
    ),
    (
        200,
        r#"{"error":{"code":429,"message":"Provider returned error"}}"#,
        "throttled",
    ),
    (200, r#"{"error":{"code":"insufficient_quota"}}"#, "blocked"),
    (200, r#"{"error":{"message":"upstream"}}"#, "failed"),
    (
        200,
        r#"{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}"#,
        "answered",
    ),
    (
        200,
        r#"{"error":null,"choices":[{"message":{"content":null,"refusal":"no"}}]}"#,
        "answered",
    ),
];

#[test]
fn the_table() {
    for (status, body, wanted) in TABLE {
        assert_eq!(word(&of(*status, body)), *wanted, "{status} {body}");
    }
}

#[test]
fn nothing_of_a_message_is_shown() {
    for status in [302, 400, 401, 402, 403, 404, 413, 422, 429, 500, 503] {
        for body in [
            r#"{"error":{"message":"Merkel","code":"Merkel","type":"sk-Merkel"}}"#,
            r#"{"error":"Merkel"}"#,
            "Merkel",
            r#"{"detail":[{"msg":"Merkel","loc":["Merkel"]}]}"#,
            r#"{"error":{"message":"Merkel: unsupported temperature"}}"#,
        ] {
            let shown = format!("{:?}", of(status, body));
            assert!(!shown.contains("Merkel"), "{shown}");
        }
    }
    let known = format!("{:?}", of(400, r#"{"error":{"code":"invalid_prompt"}}"#));
    assert!(known.contains("HTTP 400, invalid_prompt"), "{known}");
}

#[test]
fn usage_is_read_as_far_as_it_is_there() {
    let body = r#"{"choices":[{"message":{}}],"usage":{"prompt_tokens":7,"completion_tokens":"many",
        "prompt_tokens_details":{"cached_tokens":5}}}"#;
    let wanted = Usage {
        prompt_tokens: Some(7),
        cached_tokens: Some(5),
        completion_tokens: None,
    };
    assert_eq!(of(200, body), Verdict::Answered(wanted));
    let none = of(200, r#"{"choices":[{"message":{}}],"usage":null}"#);
    assert_eq!(none, Verdict::Answered(Usage::default()));
}

#[test]
fn an_embedding_is_another_answer() {
    let exchange = |body: &str| Exchange {
        status: 200,
        retry_after: None,
        body: body.as_bytes().to_vec(),
    };
    let complete =
        exchange(r#"{"data":[{"embedding":[0.5],"index":0}],"usage":{"prompt_tokens":3}}"#);
    let judged = verdict(Operation::Embeddings, &complete);
    assert_eq!(word(&judged), "answered");
    assert_eq!(word(&verdict(Operation::Chat, &complete)), "failed");
    assert_eq!(
        word(&verdict(Operation::Embeddings, &exchange("{}"))),
        "failed"
    );
}

proptest::proptest! {
    #[test]
    fn no_body_panics(status in 100..1000_u16, body: Vec<u8>, text in r#"[\[{}\]":,a-eé0]{0,80}"#) {
        for body in [body, text.into_bytes()] {
            for operation in [Operation::Chat, Operation::Embeddings] {
                let _ = verdict(operation, &Exchange { status, retry_after: None, body: body.clone() });
            }
        }
    }
}
