//! `graphmill estimate`: what a batch will take, before anything is spent.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use serde::Serialize;

use super::{
    calling::which_model,
    error::{CliError, SOME_FAILED},
    input::{self, Input},
    ontology, output,
};
use crate::{
    config::{ModelArgs, PipelineArgs},
    extractors::{Estimate, ModelSettings, Price, StageEstimate, estimate},
    graph::Text,
    pipeline::chunk,
};

/// How long a call takes if nobody has measured it. **Source:** small hosted models answer a chunk in one to three
/// seconds.
const CALL: Duration = Duration::from_secs(2);

/// Arguments of `estimate`.
#[derive(Debug, Args)]
pub(super) struct EstimateArgs {
    /// A folder (its .txt and .md files), a file, or a .jsonl file with one {"id","text"} a line.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// What may be found: a .toml, .ttl, .owl or .rdf file; the built-in ontology without it.
    #[arg(long, value_name = "FILE")]
    ontology: Option<PathBuf>,
    /// How long a call takes, for the time.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    call_time: Option<Duration>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    models: ModelArgs,
}

/// What a batch will take.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    documents: u64,
    refused: u64,
    calls: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    /// US dollars; null if the model's price is not known.
    cost: Option<f64>,
    seconds: u64,
    stages: Vec<StageLine>,
}

#[derive(Debug, Serialize)]
struct StageLine {
    stage: &'static str,
    calls: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
}

impl StageLine {
    const fn of(stage: &'static str, estimate: StageEstimate) -> Self {
        Self {
            stage,
            calls: estimate.calls,
            prompt_tokens: estimate.prompt_tokens,
            completion_tokens: estimate.completion_tokens,
        }
    }
}

pub(super) fn estimate_batch(args: &EstimateArgs) -> Result<ExitCode, CliError> {
    let models = args.models.load()?;
    let model = models.model.clone().ok_or_else(which_model)?;
    let ontology = ontology::chosen(args.ontology.as_deref())?;
    let settings = args.pipeline.settings(true);
    let (mut sum, mut documents, mut refused) = (Estimate::default(), 0, 0);
    for input in input::read(&args.paths, args.pipeline.limits())? {
        match input {
            Input::Document(document) => {
                let text = Text::new(document.text);
                let chunks = chunk(&text, &settings.chunks);
                sum += estimate(
                    &text,
                    &chunks,
                    settings.group_size,
                    &ontology,
                    ModelSettings::default(),
                );
                documents += 1;
            }
            Input::Refused { id, failure } => {
                output::note(&format!("{id}: {failure}"));
                refused += 1;
            }
        }
    }
    let total = sum.total();
    let report = Report {
        cost: models.prices.get(&model).map(|price| cost(*price, total)),
        seconds: seconds(
            total,
            models.limits.concurrency,
            (
                models.limits.requests_per_minute,
                models.limits.tokens_per_minute,
            ),
            args.call_time.unwrap_or(CALL),
        ),
        model,
        documents,
        refused,
        calls: total.calls,
        prompt_tokens: total.prompt_tokens,
        completion_tokens: total.completion_tokens,
        stages: vec![
            StageLine::of("mentions", sum.mentions),
            StageLine::of("entities", sum.entities),
            StageLine::of("relations", sum.relations),
        ],
    };
    output::written(if args.json {
        output::json(&report)
    } else {
        output::line(&report.for_people())
    })?;
    Ok(if refused > 0 {
        ExitCode::from(SOME_FAILED)
    } else {
        ExitCode::SUCCESS
    })
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn cost(price: Price, total: StageEstimate) -> f64 {
    let trillionths = u128::from(price.input) * u128::from(total.prompt_tokens)
        + u128::from(price.output) * u128::from(total.completion_tokens);
    trillionths as f64 / 1e12
}

/// The longest of what the calls at once, the requests and the tokens a minute allow.
fn seconds(
    total: StageEstimate,
    at_once: u32,
    (requests, tokens): (Option<u32>, Option<u64>),
    call: Duration,
) -> u64 {
    let millis = u64::try_from(call.as_millis()).unwrap_or(u64::MAX);
    let working = total.calls.saturating_mul(millis) / u64::from(at_once.max(1)) / 1000;
    let by_requests = requests.map_or(0, |limit| total.calls * 60 / u64::from(limit.max(1)));
    let all_tokens = total.prompt_tokens + total.completion_tokens;
    let by_tokens = tokens.map_or(0, |limit| all_tokens * 60 / limit.max(1));
    working.max(by_requests).max(by_tokens)
}

impl Report {
    fn for_people(&self) -> String {
        let cost = self.cost.map_or_else(
            || {
                format!(
                    "not known: put the price of {} into graphmill.toml",
                    self.model
                )
            },
            |cost| format!("${cost:.4}"),
        );
        let mut lines = vec![
            format!("{} with {}", documents(self.documents), self.model),
            format!("  calls      {}", self.calls),
            format!(
                "  tokens     {} in, {} out",
                self.prompt_tokens, self.completion_tokens
            ),
            format!("  cost       {cost}"),
            format!(
                "  time       {}",
                humantime::format_duration(Duration::from_secs(self.seconds.max(1)))
            ),
        ];
        for stage in &self.stages {
            lines.push(format!(
                "  {:<10} {} calls, {} tokens in, {} out",
                stage.stage, stage.calls, stage.prompt_tokens, stage.completion_tokens
            ));
        }
        lines.push(
            "`run --adjudicate` comes on top, 50 questions of up to 2,500 tokens at most: how many names are in doubt \
             is known once they are extracted"
                .to_owned(),
        );
        lines.push(
            "an estimate: four bytes a token, and as many names as the local extractor finds"
                .to_owned(),
        );
        lines.join("\n")
    }
}

fn documents(count: u64) -> String {
    if count == 1 {
        "1 document".to_owned()
    } else {
        format!("{count} documents")
    }
}
