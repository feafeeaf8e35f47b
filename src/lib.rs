//! graphmill turns a pile of documents into a knowledge graph, durably.

pub mod flow;
pub mod servers;
