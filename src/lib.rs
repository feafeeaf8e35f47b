//! graphmill turns a pile of documents into a knowledge graph, durably.

pub mod api;
pub mod cli;
pub mod config;
pub mod extractors;
pub mod flow;
pub mod graph;
pub mod pipeline;
pub mod queue;
pub mod servers;
pub mod store;
pub mod telemetry;
pub mod worker;
pub mod workflow;
