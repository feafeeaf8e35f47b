//! graphmill turns a pile of documents into a knowledge graph, durably. This page is the map of the house.
//!
//! A document goes through `chunk → mentions → entities → relations → assemble`; when every document of a batch is
//! final, `resolve` merges the same thing across them. Each stage is a typed job on a Redis queue that carries ids
//! only; Postgres holds the documents, every checkpoint, every state and the graph.
//!
//! # Rooms by floor
//!
//! A room names only rooms below it, and each has its own outside world. `tests/it/house.rs` holds both true, and
//! lists the exceptions with their reasons.
//!
//! | floor | room | knows | must not know |
//! | --- | --- | --- | --- |
//! | 4 | [`cli`] | the commands: paths in, summaries and JSON out, exit codes | how a stage is worked, SQL, Redis commands |
//! | 4 | [`api`] | HTTP routes | extractors, workers, SQL, how a stage is worked |
//! | 4 | [`scrape`] | what Prometheus is answered: this process' numbers, and the fleet's as they are at that moment | API keys and routes, what is counted where |
//! | 4 | [`board`] | pages of apalis' board for people: queues, tasks and workers of one organization, to look at | how work is done, SQL, Redis commands, anything that changes something |
//! | 4 | [`worker`] | executor, stager, sweeper, sequencer, notifier: who works what, and when | SQL, Redis commands, what an extractor does |
//! | 3 | [`workflow`] | what a client does with batches: submit, follow, cancel, report, export | queues, extractors, who does the work |
//! | 3 | [`pipeline`] | the work of each stage, unit by unit | executions, leases, queues, where checkpoints go |
//! | 3 | [`keys`] | who may ask: API keys, how one is checked, tokens for one stream | HTTP, routes, SQL, what a scope allows |
//! | 3 | [`calls`] | what happens around a call of a model: ledger, limits, budget, and the answer filed before it is read | what is asked, how an answer is read |
//! | 2 | [`store`] | Postgres, one file a table | which status comes next, Redis, stages' work |
//! | 2 | [`queue`] | Redis and apalis | Postgres, leases, what a job does |
//! | 2 | [`notify`] | users' webhooks: addresses, signatures, one attempt | what is told, whom it concerns, when to try again |
//! | 2 | [`extractors`] | who finds things in texts; the sole room that may call a model | batches, checkpoints, queues, databases |
//! | 1 | [`graph`] | spans, mentions, entities, relations, evidence, ontology, merging, export formats | everything else: no async, clock or I/O of its own |
//! | 1 | [`flow`] | stages, state machines, events, failure policies, retries | everything else: no async, clock or I/O |
//! | basement | [`config`] | flags and the environment, which nobody else reads | what the settings do |
//! | basement | [`telemetry`] | how logs look, where traces go | documents, prompts, answers, keys |
//! | basement | [`metrics`] | every number that is counted: its name, labels, unit and meaning | who counts it; ids and names of people's things |
//! | basement | [`mock_model`] | a scripted model server, for tests, and its bill | the rest of the house, which it is to catch out |
//! | basement | [`servers`] | private Postgres and Redis as child processes | schemas, queues, and the rest of the house |
//!
//! Beside the house stands `graphmill-jobs` (`jobs/`): ids and typed jobs, all that a producer needs.
//!
//! # Where to begin
//!
//! [`flow::Stage`] is the order of the work, [`pipeline::run`] works a stage, `worker/executor.rs` leases, works and
//! settles, and `migrations/` says what is kept. A program with an extractor of its own calls [`cli::main`].

pub mod api;
pub mod board;
pub mod calls;
pub mod cli;
pub mod config;
pub mod extractors;
pub mod flow;
pub mod graph;
pub mod keys;
pub mod metrics;
pub mod mock_model;
pub mod notify;
pub mod pipeline;
pub mod queue;
pub mod scrape;
pub mod servers;
pub mod store;
pub mod telemetry;
pub mod worker;
pub mod workflow;

/// What the README shows in Rust compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
