//! The route that exports a batch's graph, as a stream.
//!
//! Invariants: no more than a page of rows waits for a slow reader; what breaks on the way breaks the stream, so that
//! no half of a graph looks like a whole one.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{self, Path},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::mpsc;
use tracing::Instrument;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    access::Reads,
    asked::{self, Asked},
    batches::find,
    problem::{Problem, chain},
    tag,
};
use crate::{
    graph::{BaseIri, ExportFormat, ExportStyle},
    workflow::{self, ExportFailure, Reader},
};

/// How long a reader may take for what waits for it, some megabytes at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(export))
}

/// How the graph is written.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ExportQuery {
    /// `json` (without it), `turtle`, `json-ld`, `graphml` or `cypher`.
    format: Option<String>,
    /// What the IRIs of turtle and json-ld begin with (`urn:graphmill:` without it).
    base_iri: Option<String>,
}

/// The graph of a batch: documents, entities, relations, clusters; of a batch that runs, what there is so far.
///
/// The answer is streamed; one that breaks off is not whole. An ended batch's has an `ETag`.
#[utoipa::path(get, path = "/api/batches/{batch}/export", tag = "graph",
    params(("batch" = String, Path, description = "Its id or name"), ExportQuery), responses(
    (status = 200, description = "The graph, as a file", headers(("etag" = String), ("content-disposition" = String)),
        content((Object = "application/json"), (String = "text/turtle"), (Object = "application/ld+json"),
                (String = "application/graphml+xml"), (String = "text/plain"))),
    (status = 304, description = "It is what the caller has"),
    (status = 400, description = "The query can't be read"),
    (status = 404, description = "There is no such batch"),
))]
async fn export(
    extract::State(state): extract::State<State>,
    Reads(organization): Reads,
    Path(wanted): Path<String>,
    Asked(query): Asked<ExportQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let style = style(&query)?;
    let id = find(&state, organization, &wanted).await?;
    let store = state.0.store.clone();
    let version = workflow::export_version(&store, organization, id).await?;
    let tag = version.map(|version| {
        let (format, base) = (style.format, query.base_iri.as_deref().unwrap_or_default());
        let program = env!("CARGO_PKG_VERSION");
        tag::of(format!("{version} {format} {base} {program}").as_bytes())
    });
    if let Some(tag) = tag.as_deref().filter(|tag| tag::is_known(&headers, tag)) {
        return Ok(tag::unchanged(tag));
    }
    let (said, mut hear) = mpsc::channel(1);
    let format = style.format;
    let work = async move {
        let buffer = Buffer::default();
        let out = buffer.clone();
        let mut reader = Sending {
            buffer,
            said: said.clone(),
        };
        let open = move |_| Ok(out.clone());
        let done =
            workflow::export_paced(&store, organization, id, &style, open, &mut reader).await;
        let ended = match done {
            Ok(_) => reader.ready().await,
            Err(error) => {
                tell(&error);
                Err(io::Error::other("the export broke off"))
            }
        };
        if let Err(error) = ended {
            let _ = said.send(Err(error)).await;
        }
    };
    tokio::spawn(work.in_current_span());
    // What breaks before anything is sent is still a problem with a status.
    let first = match hear.recv().await {
        Some(Err(_)) => {
            return Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the graph could not be read: trying again may help",
            ));
        }
        first => first,
    };
    let rest = stream::unfold((first, hear), |(first, mut hear)| async {
        let next = match first {
            Some(first) => Some(first),
            None => hear.recv().await,
        };
        next.map(|part: io::Result<Bytes>| (part, (None, hear)))
    });
    let mut response = Body::from_stream(rest).into_response();
    let (content_type, ending) = kind(format);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=\"{id}.{ending}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(match tag {
        Some(tag) => tag::with(&tag, response),
        None => response,
    })
}

fn style(query: &ExportQuery) -> Result<ExportStyle, Problem> {
    let formats =
        "one of json, turtle, json-ld, graphml and cypher; csv is a folder, for the command line";
    let format = asked::given("format", query.format.as_deref(), formats)?;
    let format = format.unwrap_or(ExportFormat::Json);
    if format.is_folder() {
        return Err(asked::unfit("format", formats));
    }
    if query.base_iri.is_some() && !format.has_iris() {
        return Err(asked::unfit(
            "base_iri",
            "it is for turtle and json-ld alone",
        ));
    }
    let base: Option<BaseIri> =
        asked::given("base_iri", query.base_iri.as_deref(), "an absolute IRI")?;
    Ok(ExportStyle {
        format,
        base: base.unwrap_or_default(),
    })
}

/// The media type, and what a file's name ends with.
const fn kind(format: ExportFormat) -> (&'static str, &'static str) {
    match format {
        ExportFormat::Json => ("application/json", "json"),
        ExportFormat::Csv => ("text/csv; charset=utf-8", "csv"),
        ExportFormat::Turtle => ("text/turtle; charset=utf-8", "ttl"),
        ExportFormat::JsonLd => ("application/ld+json", "jsonld"),
        ExportFormat::GraphMl => ("application/graphml+xml", "graphml"),
        ExportFormat::Cypher => ("text/plain; charset=utf-8", "cypher"),
    }
}

fn tell(error: &ExportFailure) {
    match error {
        // The reader's choice.
        ExportFailure::Write(_) => tracing::debug!(error = chain(error), "an export was given up"),
        ExportFailure::Store(_) | ExportFailure::NoBatch(_) => {
            tracing::warn!(error = chain(error), "an export broke off");
        }
    }
}

/// What was written and not yet sent.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The way to the client.
struct Sending {
    buffer: Buffer,
    said: mpsc::Sender<io::Result<Bytes>>,
}

impl Reader for Sending {
    async fn ready(&mut self) -> io::Result<()> {
        let written = {
            let mut held = self.buffer.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *held)
        };
        if written.is_empty() {
            return Ok(());
        }
        match tokio::time::timeout(PATIENCE, self.said.send(Ok(written.into()))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}
