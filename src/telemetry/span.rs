//! Spans: what is done, from when to when, and below what. Made only while traces are; a span that is not made costs
//! nothing.
//!
//! Where a span hangs is always said, and never found out from what runs on this thread: what belongs together is done
//! by processes that never meet.

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Context, InstrumentationScope, KeyValue, Value,
    trace::{
        Link, Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags,
        TraceId, TraceState, Tracer,
    },
};
use opentelemetry_sdk::trace::{
    SamplingDecision, SdkTracer, ShouldSample, SpanData, SpanEvents, SpanLinks,
};
use sha2::{Digest, Sha256};

use super::{TraceContext, export::Funnel};

/// What a process makes spans with.
#[derive(Debug)]
pub(super) struct Maker {
    pub(super) tracer: SdkTracer,
    /// Which traces that begin here are made.
    pub(super) root: Box<dyn ShouldSample>,
    pub(super) scope: InstrumentationScope,
    pub(super) funnel: Funnel,
}

static MAKER: OnceLock<Maker> = OnceLock::new();

/// Begins to make spans; `false` if they are made already.
pub(super) fn set(maker: Maker) -> bool {
    MAKER.set(maker).is_ok()
}

/// Whether traces are made.
#[must_use]
pub fn traces() -> bool {
    MAKER.get().is_some()
}

/// What somebody does, seen from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Work for itself.
    Work,
    /// It takes something in that others will work on.
    Submit,
    /// It works on what was submitted.
    Process,
    /// It asks somebody outside.
    Ask,
}

impl Does {
    const fn kind(self) -> SpanKind {
        match self {
            Self::Work => SpanKind::Internal,
            Self::Submit => SpanKind::Producer,
            Self::Process => SpanKind::Consumer,
            Self::Ask => SpanKind::Client,
        }
    }
}

/// Something that is being done; it ends with this value. Nothing of a document, a prompt, an answer or a key may be
/// said of it: ids, names of ours, numbers and codes.
#[derive(Debug, Default)]
pub struct Span(Option<opentelemetry_sdk::trace::Span>);

impl Span {
    /// Begins something below `parent`; without one, a trace.
    #[must_use]
    pub fn begin(name: impl Into<String>, does: Does, parent: Option<TraceContext>) -> Self {
        let Some(maker) = MAKER.get() else {
            return Self::none();
        };
        let mut surroundings = Context::new();
        if let Some(parent) = parent {
            surroundings = surroundings.with_remote_span_context(remote(parent));
        }
        let builder = maker
            .tracer
            .span_builder(name.into())
            .with_kind(does.kind());
        let tracer = &maker.tracer;
        Self(Some(tracer.build_with_context(builder, &surroundings)))
    }

    /// One that is not made.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Its place, for what hangs below it.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext> {
        let context = self.0.as_ref()?.span_context();
        TraceContext::new(
            u128::from_be_bytes(context.trace_id().to_bytes()),
            u64::from_be_bytes(context.span_id().to_bytes()),
            context.is_sampled(),
        )
    }

    /// Says something of it.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(name, value));
        }
    }

    /// Says that it failed, by a code: a message could quote what somebody has sent.
    pub fn fail(&mut self, code: impl Into<String>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new("error.type", code.into()));
            span.set_status(Status::error(""));
        }
    }

    /// Says what it came of, in a trace of its own.
    pub fn link(&mut self, to: TraceContext) {
        if let Some(span) = &mut self.0 {
            span.add_link(remote(to), Vec::new());
        }
    }
}

/// A trace that nobody began: whoever derives it from the same `seed`, on any machine, finds the same place, and whether
/// it is made. `None` if no traces are made.
#[must_use]
pub fn derived(seed: &[u8]) -> Option<TraceContext> {
    let maker = MAKER.get()?;
    let hash = Sha256::new()
        .chain_update(b"graphmill trace ")
        .chain_update(seed)
        .finalize();
    let (trace, rest) = hash.split_first_chunk::<16>()?;
    let (span, _) = rest.split_first_chunk::<8>()?;
    let sampled = maker.root.should_sample(
        None,
        TraceId::from_bytes(*trace),
        "",
        &SpanKind::Internal,
        &[],
        &[],
    );
    TraceContext::new(
        u128::from_be_bytes(*trace),
        u64::from_be_bytes(*span),
        sampled.decision == SamplingDecision::RecordAndSample,
    )
}

/// Says what stands at a place that was [`derived`]: it began `since` 1970, and ends now.
pub fn stand(
    at: TraceContext,
    name: &'static str,
    since: Duration,
    link: Option<TraceContext>,
    said: Vec<(&'static str, String)>,
) {
    let Some(maker) = MAKER.get().filter(|_| at.is_sampled()) else {
        return;
    };
    let mut links = SpanLinks::default();
    links
        .links
        .extend(link.map(|to| Link::with_context(remote(to))));
    let end_time = now();
    maker.funnel.take(SpanData {
        span_context: SpanContext::new(
            TraceId::from(at.trace()),
            SpanId::from(at.span()),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: (SystemTime::UNIX_EPOCH + since).min(end_time),
        end_time,
        attributes: said
            .into_iter()
            .map(|(name, value)| KeyValue::new(name, value))
            .collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links,
        status: Status::Unset,
        instrumentation_scope: maker.scope.clone(),
    });
}

#[expect(
    clippy::disallowed_methods,
    reason = "a trace says what this machine's clock says; nothing is decided by it"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

fn remote(context: TraceContext) -> SpanContext {
    SpanContext::new(
        TraceId::from(context.trace()),
        SpanId::from(context.span()),
        TraceFlags::default().with_sampled(context.is_sampled()),
        true,
        TraceState::default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_collector_nothing_is_made() {
        assert!(!traces());
        let parent = TraceContext::new(1, 2, true);
        let mut span = Span::begin("work", Does::Work, parent);
        span.set("graphmill.number", 1);
        span.fail("none");
        assert_eq!(span.context(), None);
        assert_eq!(derived(b"seed"), None);
    }
}
