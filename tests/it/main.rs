//! Every integration test, in one binary: it links once, and its tests share one private Postgres.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and its child processes talk over their output"
)]

mod servers;
mod support;
