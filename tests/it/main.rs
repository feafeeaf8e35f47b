//! Every integration test, in one binary: it links once, and its tests share one private Postgres.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod servers;
mod support;
