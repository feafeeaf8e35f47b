//! One request to the collector: OTLP over HTTP, as protobuf.
//!
//! Must not know where spans come from. Invariant: nothing of an answer but its status and its count is kept or logged,
//! and no header that was given ever is.

use std::time::Duration;

use opentelemetry_proto::{
    tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    transform::{
        common::tonic::ResourceAttributesWithSchema,
        trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{Resource, trace::SpanData};
use prost::Message;
use reqwest::{
    Client,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect,
};

use crate::config::TraceSettings;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes of an answer that are looked at.
const ANSWER: u64 = 64 << 10;

/// No HTTP client for the collector could be made. Trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// The system's part.
    #[error("no HTTP client for the collector of traces could be made")]
    Client(#[source] reqwest::Error),
    /// It is not shown, since it may be a key.
    #[error("OTEL_EXPORTER_OTLP_HEADERS has what can't stand in the head of a request")]
    Header,
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Delivered {
    /// It was taken, but for so many spans.
    Taken {
        /// Spans that the collector does not want.
        refused: u64,
    },
    /// It was not.
    Failed {
        /// In a few words.
        why: String,
        /// Whether trying again may help.
        again: bool,
    },
}

/// Who takes spans.
#[derive(Debug)]
pub(super) struct Collector {
    client: Client,
    endpoint: String,
    resource: ResourceAttributesWithSchema,
}

impl Collector {
    /// The one of the settings. Connects to nothing yet.
    pub(super) fn new(settings: &TraceSettings, of: &Resource) -> Result<Self, CollectorError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let name = HeaderName::try_from(name).map_err(|_| CollectorError::Header)?;
            let mut value = HeaderValue::try_from(value).map_err(|_| CollectorError::Header)?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        let client = Client::builder()
            .user_agent(concat!("graphmill/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(CONNECT.min(settings.timeout))
            .timeout(settings.timeout)
            .build()
            .map_err(CollectorError::Client)?;
        Ok(Self {
            client,
            endpoint: settings.endpoint.clone(),
            resource: of.into(),
        })
    }

    /// The body of a request.
    pub(super) fn request(&self, spans: Vec<SpanData>) -> Vec<u8> {
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }

    /// Makes one try.
    pub(super) async fn send(&self, request: &[u8]) -> Delivered {
        let sent = self.client.post(&self.endpoint).body(request.to_vec());
        let answer = match sent.send().await {
            Ok(answer) => answer,
            Err(error) => {
                return Delivered::Failed {
                    // The address may hold a key.
                    why: super::causes(&error.without_url()),
                    again: true,
                };
            }
        };
        let status = answer.status();
        if !status.is_success() {
            return Delivered::Failed {
                why: format!("HTTP {}", status.as_u16()),
                // **Source:** OTLP, "Retryable Response Codes".
                again: matches!(status.as_u16(), 429 | 502 | 503 | 504),
            };
        }
        let short = answer.content_length().is_some_and(|bytes| bytes <= ANSWER);
        let body = if short {
            answer.bytes().await.unwrap_or_default().to_vec()
        } else {
            Vec::new()
        };
        let refused = ExportTraceServiceResponse::decode(body.as_slice())
            .ok()
            .and_then(|response| response.partial_success)
            .map_or(0, |partial| partial.rejected_spans.max(0).unsigned_abs());
        Delivered::Taken { refused }
    }
}
