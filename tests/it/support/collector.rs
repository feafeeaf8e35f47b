//! A collector of traces: it takes what OTLP/HTTP exporters send, and shows the spans.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::status::StatusCode as SpanStatus,
};
use prost::Message;
use tokio::net::TcpListener;

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Takes,
    Refuses,
    /// No answer, ever.
    Hangs,
}

/// A span that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty for a root.
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) nanos: std::ops::Range<u64>,
    pub(crate) said: BTreeMap<String, String>,
    /// Spans that it is linked with, each as trace and span.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) failed: bool,
    /// What is said of its process.
    pub(crate) process: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Inner {
    mood: Mood,
    bodies: Vec<Bytes>,
    heads: Vec<HeaderMap>,
    spans: Vec<Seen>,
}

/// The server, for as long as the test's runtime lives.
pub(crate) struct Collector {
    address: String,
    inner: Arc<Mutex<Inner>>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        Self::of(Mood::Takes).await
    }

    /// One that answers 503.
    pub(crate) async fn refusing() -> Self {
        Self::of(Mood::Refuses).await
    }

    /// One that never answers.
    pub(crate) async fn hanging() -> Self {
        Self::of(Mood::Hangs).await
    }

    async fn of(mood: Mood) -> Self {
        let inner = Arc::new(Mutex::new(Inner {
            mood,
            bodies: Vec::new(),
            heads: Vec::new(),
            spans: Vec::new(),
        }));
        let router = Router::new().fallback(take).with_state(Arc::clone(&inner));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, inner }
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Every span that came.
    pub(crate) fn spans(&self) -> Vec<Seen> {
        self.inner.lock().unwrap().spans.clone()
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> usize {
        self.inner.lock().unwrap().bodies.len()
    }

    /// The head of each request.
    pub(crate) fn heads(&self) -> Vec<HeaderMap> {
        self.inner.lock().unwrap().heads.clone()
    }

    /// Nothing that came has any of these words in it.
    #[track_caller]
    pub(crate) fn assert_nowhere(&self, words: &[&str]) {
        for body in &self.inner.lock().unwrap().bodies {
            for word in words {
                let there = body.windows(word.len()).any(|at| at == word.as_bytes());
                assert!(!there, "`{word}` was exported");
            }
        }
    }
}

async fn take(
    State(inner): State<Arc<Mutex<Inner>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mood = {
        let mut inner = inner.lock().unwrap();
        inner.bodies.push(body.clone());
        inner.heads.push(headers.clone());
        inner.mood
    };
    match mood {
        Mood::Refuses => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Mood::Hangs => return std::future::pending().await,
        Mood::Takes => {}
    }
    if uri.path() != "/v1/traces" || headers["content-type"] != "application/x-protobuf" {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    inner.lock().unwrap().spans.extend(read(request));
    StatusCode::OK.into_response()
}

fn read(request: ExportTraceServiceRequest) -> Vec<Seen> {
    let mut spans = Vec::new();
    for of_process in request.resource_spans {
        let process = said(&of_process.resource.unwrap_or_default().attributes);
        for span in of_process.scope_spans.into_iter().flat_map(|it| it.spans) {
            spans.push(Seen {
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                name: span.name,
                nanos: span.start_time_unix_nano..span.end_time_unix_nano,
                said: said(&span.attributes),
                links: span
                    .links
                    .iter()
                    .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
                    .collect(),
                failed: span
                    .status
                    .is_some_and(|status| status.code() == SpanStatus::Error),
                process: process.clone(),
            });
        }
    }
    let ids: HashSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), spans.len(), "no id came twice in a request");
    spans
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn said(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    attributes
        .iter()
        .map(|pair| {
            let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
            let text = match value {
                Some(Value::StringValue(text)) => text.clone(),
                Some(Value::IntValue(number)) => number.to_string(),
                Some(Value::BoolValue(yes)) => yes.to_string(),
                other => panic!("an attribute of another kind: {other:?}"),
            };
            (pair.key.clone(), text)
        })
        .collect()
}
