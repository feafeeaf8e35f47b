//! Every integration test, in one binary: it links once, and its tests share one private Postgres.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that can't go on should stop where it is"
)]

mod admission;
mod api;
mod binary;
mod calls;
mod cli;
mod compose;
mod conformance;
mod crash;
mod decisions;
mod doctor;
mod engine;
mod exports;
mod house;
mod lifecycle;
mod machines;
mod manual;
mod metrics;
mod mock_model;
mod model;
mod notify;
mod organizations;
mod persistence;
mod poison;
mod policies;
mod producers;
mod progress;
mod protocol;
mod provider;
mod prune;
mod queue;
mod readme;
mod recovery;
mod resolution;
mod roles;
mod servers;
mod stream;
mod support;
mod traces;
