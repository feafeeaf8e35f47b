//! `graphmill run`: the main job. It submits a batch, works it in this process, shows how far it is, and says what
//! came of it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use graphmill_jobs::BatchId;
use tokio::signal::unix::{self, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{
    adjudication::AdjudicationArgs,
    calling,
    error::{CliError, INTERRUPTED, SOME_FAILED, USAGE},
    export::Destination,
    input::{self, Input},
    notifying, ontology, output,
    progress::{self, Until, Watched},
    session::{Session, steadily},
    summary,
};
use crate::{
    config::{BudgetArgs, ModelArgs, NotifyArgs, PipelineArgs, ServerArgs, WorkerArgs},
    extractors::{Extractor, Extractors, Local, RelationScorer},
    flow::{FailurePolicy, Intake, Signal, Tolerance},
    graph::Ontology,
    notify::{Address, Messenger},
    pipeline::{ModelChoice, Settings},
    queue::LimitSettings,
    store::{self, Caps, StoreError},
    worker::{Worker, WorkerSettings},
    workflow::{self, BatchReport, NewBatch, Submission, SubmitError},
};

/// How long a statement that is under way may take after Ctrl-C.
const STATEMENT: Duration = Duration::from_secs(2);

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// A folder (its .txt and .md files), a file, or a .jsonl file with one {"id","text"} a line.
    paths: Vec<PathBuf>,
    /// The batch's name, unique; one is made up without it.
    #[arg(long, value_parser = super::organization::name)]
    name: Option<String>,
    /// Documents in work at once, over all replicas (1 to 10,000).
    #[arg(
        long,
        value_name = "M",
        default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    concurrency: u32,
    /// What to do about a document that fails.
    #[arg(long, value_name = "POLICY", default_value_t = FailurePolicy::ContinueOnFailure, value_parser = policy())]
    failure_policy: FailurePolicy,
    /// Extra rounds that `retry-failed` gives to failed documents (0 to 100).
    #[arg(
        long,
        value_name = "N",
        default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(0..=100)
    )]
    max_retries: u32,
    /// Documents that may be given up, as a number or as a share of all (`10`, `5%`): with more, the rest is cancelled
    /// and the batch fails.
    #[arg(long, value_name = "N|P%")]
    max_failures: Option<Tolerance>,
    /// Its share of the fleet against your other open batches (1 to 1,000).
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    weight: u32,
    /// Who extracts.
    #[arg(long, value_name = "NAME", default_value = "local")]
    extractor: String,
    /// What may be found: a .toml, .ttl, .owl or .rdf file; the built-in ontology without it.
    #[arg(long, value_name = "FILE")]
    ontology: Option<PathBuf>,
    /// Who says how sure the local extractor's relations are: its rules alone, or a logistic regression too.
    #[arg(long, value_name = "SCORER", value_enum)]
    relation_scorer: Option<ScorerName>,
    /// Write the graph when it is done: json:FILE, csv:FOLDER, or turtle, json-ld, graphml or cypher and a file.
    #[arg(long, value_name = "FORMAT:PATH")]
    export: Option<Destination>,
    /// Go on with a batch (id or name); the last unfinished one without a value.
    #[arg(long, value_name = "BATCH", num_args = 0..=1, default_missing_value = "")]
    resume: Option<String>,
    /// Keep the batch open: `graphmill batch add` brings more documents, and `graphmill batch seal` ends it. Without
    /// PATH it begins empty.
    #[arg(long)]
    open: bool,
    /// Print exactly one JSON object.
    #[arg(long)]
    json: bool,
    /// W3C trace context of whoever runs this: the new batch's trace hangs below it.
    #[arg(long, env = "TRACEPARENT", value_name = "CONTEXT")]
    traceparent: Option<String>,
    #[command(flatten)]
    worker: WorkerArgs,
    /// Ask the model anew, although other batches have paid for the same answers.
    #[arg(long, help_heading = "Models")]
    fresh: bool,
    #[command(flatten)]
    adjudication: AdjudicationArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    models: ModelArgs,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    notify: NotifyArgs,
}

/// The policies, so that a wrong one is answered with the right ones.
fn policy() -> impl clap::builder::TypedValueParser<Value = FailurePolicy> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(FailurePolicy::ALL.map(FailurePolicy::as_str))
        .try_map(|name| name.parse::<FailurePolicy>())
}

/// The scorers that `--relation-scorer` knows.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum ScorerName {
    /// The rules alone.
    None,
    /// The rules and a logistic regression.
    Lr,
}

/// The name of the extractor `name` with that scorer.
pub(super) fn with_scorer(name: String, scorer: Option<ScorerName>) -> Result<String, CliError> {
    let scorer = match scorer {
        None => return Ok(name),
        Some(ScorerName::None) => RelationScorer::None,
        Some(ScorerName::Lr) => RelationScorer::Lr,
    };
    if name == Local::new().name() {
        return Ok(Local::scored_by(scorer).name().to_owned());
    }
    Err(CliError::Usage(format!(
        "the extractor `{name}` has no scorer to choose: `--relation-scorer` is for `local`"
    )))
}

/// How a new batch is worked.
struct Setup {
    ontology: Arc<Ontology>,
    settings: Settings,
    choice: Option<(ModelChoice, Caps)>,
    limits: LimitSettings,
    /// Who delivers webhooks, and where to tell of this batch's end.
    messenger: Option<Messenger>,
    notify: Option<Address>,
}

/// The batch to work, and what is still to be submitted to it.
struct Target {
    batch: BatchId,
    name: String,
    submission: Option<Submission>,
}

pub(super) async fn run(
    servers: &ServerArgs,
    mut args: RunArgs,
    extractors: Extractors,
) -> Result<ExitCode, CliError> {
    args.extractor = with_scorer(args.extractor, args.relation_scorer)?;
    let (extractors, models) = calling::equip(extractors, &args.models)?;
    let extractor = calling::extractor(&extractors, &args.extractor)?;
    // A batch keeps the model that it was opened with.
    let choice = if args.resume.is_some() {
        None
    } else {
        let adjudicates = args
            .adjudication
            .calls_models(&extractors, &args.extractor)?;
        let budget = &args.budget;
        calling::of_batch(&*extractor, &models, budget, args.fresh, adjudicates)?
    };
    let mut settings = args.pipeline.settings(extractor.is_paid());
    settings.adjudicate = args.adjudication.settings();
    if choice.is_some() {
        settings = calling::patient(settings, &models);
    }
    let messenger = notifying::messenger(&args.notify.signing)?;
    let setup = Setup {
        notify: notifying::address(&args.notify, messenger.is_some())?,
        messenger,
        ontology: ontology::chosen(args.ontology.as_deref())?,
        settings,
        choice,
        limits: models.limits,
    };
    // `--resume PATH` is taken for what it must mean.
    if let Some(wanted) = args.resume.as_mut()
        && !wanted.is_empty()
        && wanted.parse::<BatchId>().is_err()
        && Path::new(wanted.as_str()).exists()
    {
        args.paths.insert(0, PathBuf::from(std::mem::take(wanted)));
    }
    // `--name N --resume` means that batch, not whichever is the last.
    if let (Some(wanted), Some(name)) = (args.resume.as_mut(), &args.name)
        && wanted.is_empty()
    {
        wanted.clone_from(name);
    }
    let inputs = if (args.resume.is_some() || args.open) && args.paths.is_empty() {
        None
    } else {
        Some(input::read(&args.paths, args.pipeline.limits())?)
    };
    if let Some(destination) = &args.export {
        destination.check()?;
    }
    let session = Session::open(servers, args.json).await?;
    let done = Box::pin(work(&session, &args, setup, inputs, extractors)).await;
    session.close().await;
    done
}

async fn work(
    session: &Session,
    args: &RunArgs,
    setup: Setup,
    inputs: Option<impl Iterator<Item = Input> + Send>,
    extractors: Extractors,
) -> Result<ExitCode, CliError> {
    let organization = session.organization;
    // Before there is a batch: one that can't be worked would only be in the way.
    let queue = session.queue().await?;
    let mut interrupts = Interrupts::listen();
    let target = match &args.resume {
        Some(wanted) => resumed(session, wanted, args, &setup).await?,
        None => opened(session, args, &setup).await?,
    };
    let (batch, name) = (target.batch, target.name);
    let calls_before = workflow::calls_so_far(&session.store, organization, batch).await?;
    if has_ended(session, batch).await? {
        output::note(&format!("batch {batch} ({name}) has ended already"));
        return finish(session, args, batch, calls_before).await;
    }
    output::note(&format!("batch {batch} ({name})"));
    let submission = target
        .submission
        .filter(|submission| inputs.is_some() || submission.must_go_on());
    if submission.is_some() && inputs.is_none() && !args.open {
        return Err(CliError::Usage(format!(
            "batch {batch} was interrupted while its documents were being submitted: give PATH again, \
             with --resume {batch}"
        )));
    }
    let slots = (args.concurrency as usize).clamp(8, 256);
    let settings = WorkerSettings {
        limits: setup.limits,
        ..args.worker.settings(slots)
    };
    let store = session.store.clone();
    let signs = setup.messenger.is_some();
    let worker =
        Worker::start_notifying(store, queue, extractors, settings, setup.messenger).await?;
    let stop = CancellationToken::new();
    let submitting = submission.is_some();
    let mut submitted = !submitting;
    let watched = {
        let working = async {
            if let Some(submission) = submission {
                let inputs = inputs.into_iter().flatten();
                submitted = submit(submission, inputs, args.open, &worker, &stop).await?;
                if !submitted {
                    return Ok(Watched::Interrupted);
                }
            }
            worker.wake(organization, batch);
            progress::follow(
                &session.store,
                organization,
                batch,
                Some(worker.moved()),
                Until::AtRest,
                &stop,
            )
            .await
        };
        tokio::pin!(working);
        tokio::select! {
            watched = &mut working => watched,
            () = interrupts.next() => {
                stop.cancel();
                // It stops between two statements, unless a server is away.
                let stopped = tokio::time::timeout(STATEMENT, working).await;
                stopped.unwrap_or(Ok(Watched::Interrupted))
            }
        }
    };
    if matches!(watched, Ok(Watched::Ended)) {
        tell_end(session, batch, signs, &mut interrupts).await?;
    }
    let hint = if submitted {
        format!("graphmill run --resume {batch}")
    } else {
        again(args, batch)
    };
    let hard = format!("stopped hard; go on with: {hint}");
    tokio::spawn(async move {
        interrupts.next().await;
        output::note(&hard);
        std::process::exit(i32::from(INTERRUPTED));
    });
    if matches!(watched, Ok(Watched::Interrupted)) {
        output::note("draining what is in work (Ctrl-C again stops hard)");
    }
    worker.drain(args.worker.drain).await;
    match watched? {
        Watched::Ended | Watched::AtRest => finish(session, args, batch, calls_before).await,
        Watched::Interrupted => {
            output::note(&format!("interrupted; go on with: {hint}"));
            if args.json
                && let Some(report) =
                    workflow::report(&session.store, organization, batch, calls_before).await?
            {
                output::written(output::json(&report))?;
            }
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// Waits a while until the end of the batch is told. A Ctrl-C ends that and nothing else: all but the news is done.
async fn tell_end(
    session: &Session,
    batch: BatchId,
    signs: bool,
    interrupts: &mut Interrupts,
) -> Result<(), StoreError> {
    tokio::select! {
        told = notifying::wait(&session.store, session.organization, batch, signs) => told,
        () = interrupts.next() => Ok(()),
    }
}

/// Whether there is nothing left to work.
async fn has_ended(session: &Session, batch: BatchId) -> Result<bool, StoreError> {
    let organization = session.organization;
    let mut transaction = session.store.app(organization).await?;
    let found = store::batch_by_id(&mut transaction, organization, batch).await?;
    Ok(found.is_some_and(|batch| batch.state.name().has_ended()))
}

/// How a submission that was interrupted goes on.
fn again(args: &RunArgs, batch: BatchId) -> String {
    let paths: Vec<_> = args
        .paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let open = if args.open { " --open" } else { "" };
    format!("graphmill run {}{open} --resume {batch}", paths.join(" "))
}

/// Opens a new batch.
async fn opened(session: &Session, args: &RunArgs, setup: &Setup) -> Result<Target, CliError> {
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| workflow::fresh_name(&hint(&args.paths)));
    let batch = NewBatch {
        name: name.clone(),
        extractor: args.extractor.clone(),
        ontology: Arc::clone(&setup.ontology),
        settings: setup.settings,
        model: setup.choice.clone(),
        concurrency: args.concurrency,
        policy: args.failure_policy,
        max_retries: args.max_retries,
        tolerance: args.max_failures,
        weight: args.weight,
        traceparent: args.traceparent.clone(),
    };
    let submission = Submission::open(&session.store, session.organization, &batch).await?;
    if let Some(address) = &setup.notify {
        submission.notify(address).await?;
    }
    Ok(Target {
        batch: submission.batch(),
        name,
        submission: Some(submission),
    })
}

/// Finds the batch to go on with; the newest one at all, if none is unfinished.
async fn resumed(
    session: &Session,
    wanted: &str,
    args: &RunArgs,
    setup: &Setup,
) -> Result<Target, CliError> {
    let called = args.name.as_deref();
    let ontology = args.ontology.as_ref().map(|_| &*setup.ontology);
    let organization = session.organization;
    let store = &session.store;
    let batch = if wanted.is_empty() {
        let mut transaction = store.app(organization).await?;
        match store::last_unfinished_batch(&mut transaction, organization).await? {
            Some(batch) => batch,
            None => store::batches(&mut transaction, organization, None, 1)
                .await?
                .first()
                .map(|batch| batch.id)
                .ok_or_else(|| CliError::Usage("there is no batch to go on with".to_owned()))?,
        }
    } else {
        super::batch::find(session, wanted).await?
    };
    let mut transaction = store.app(organization).await?;
    let found = store::batch_by_id(&mut transaction, organization, batch).await?;
    // A batch keeps what it was opened with: half a graph in another ontology would be none.
    if let (Some(ontology), Some(found)) = (ontology, &found)
        && store::ontology_by_id(&mut transaction, organization, found.ontology).await? != *ontology
    {
        return Err(CliError::Usage(format!(
            "--ontology differs from the one that batch {batch} ({}) was opened with: leave it out to go on with that \
             one, or begin a new batch",
            found.name
        )));
    }
    if let (Some(wanted), Some(found)) = (args.adjudication.settings(), &found)
        && workflow::adjudicates(found) != Some(wanted)
    {
        return Err(CliError::Usage(format!(
            "--adjudicate differs from how batch {batch} ({}) was opened: leave it out to go on with that, or begin a \
             new batch",
            found.name
        )));
    }
    drop(transaction);
    let name = found
        .as_ref()
        .map(|batch| batch.name.clone())
        .unwrap_or_default();
    if let Some(called) = called.filter(|called| *called != name) {
        return Err(CliError::Usage(format!(
            "--resume {wanted} is the batch `{name}`, not `{called}`: leave out --name"
        )));
    }
    super::batch::raise(session, batch, &args.budget).await?;
    if let Some(address) = &setup.notify {
        workflow::notify(store, organization, batch, address).await?;
    }
    if let Some(found) = found {
        let mut signals = Vec::new();
        if matches!(found.intake, Intake::Filling(filling) if filling.is_of_its_own()) {
            // A retry or a re-run of it was cut off.
            signals.push(Signal::Retry);
        }
        // Whatever it was paused for: whoever goes on with it wants to know whether that is over.
        if found.paused.is_some() {
            signals.push(Signal::Resume);
        }
        for signal in signals {
            workflow::signal_batch(store, organization, batch, signal).await?;
        }
    }
    let submission = match Submission::reopen(store, organization, batch).await {
        Ok(submission) => Some(submission),
        Err(SubmitError::Sealed) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Target {
        batch,
        name,
        submission,
    })
}

/// Submits the documents; `false` if it was stopped before the last.
async fn submit(
    mut submission: Submission,
    inputs: impl Iterator<Item = Input> + Send,
    open: bool,
    worker: &Worker,
    stop: &CancellationToken,
) -> Result<bool, CliError> {
    let batch = submission.batch();
    for input in inputs {
        if stop.is_cancelled() {
            return Ok(false);
        }
        match input {
            Input::Document(document) => submission.add(document).await?,
            Input::Refused { id, failure } => submission.refuse(id, failure).await?,
        }
        worker.wake(submission.organization(), batch);
    }
    submission.finish(open).await?;
    Ok(true)
}

/// Exports, reports, and says with the exit code how it went.
async fn finish(
    session: &Session,
    args: &RunArgs,
    batch: BatchId,
    calls_before: u64,
) -> Result<ExitCode, CliError> {
    let organization = session.organization;
    if let Some(destination) = &args.export {
        destination.write(session, batch).await?;
    }
    let report = steadily(async || {
        workflow::report(&session.store, organization, batch, calls_before).await
    })
    .await?
    .ok_or_else(|| CliError::Usage(format!("there is no batch `{batch}`")))?;
    output::written(if args.json {
        output::json(&report)
    } else {
        let mut transaction = session.store.app(organization).await?;
        let busiest = store::busiest(&mut transaction, organization, batch, 10).await?;
        drop(transaction);
        let exported = args
            .export
            .as_ref()
            .map(|destination| destination.path.as_path());
        output::line(&summary::report(&report, &busiest, exported))
    })?;
    if report.open {
        output::note(&format!(
            "it stays open: graphmill batch add {batch} PATH…, and at last graphmill batch seal {batch}"
        ));
    }
    Ok(exit_code(&report))
}

pub(super) fn exit_code(report: &BatchReport) -> ExitCode {
    let documents = &report.documents;
    let usable = documents.total - documents.refused - documents.duplicate;
    if report.open && usable == 0 && documents.refused == 0 {
        ExitCode::SUCCESS
    } else if usable == 0 {
        ExitCode::from(USAGE)
    } else if documents.completed == usable
        && documents.refused == 0
        && (report.open || report.state == "Completed")
    {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(SOME_FAILED)
    }
}

/// What a batch without a name is called after.
fn hint(paths: &[PathBuf]) -> String {
    paths
        .first()
        .and_then(|path| path.file_stem())
        .map(|stem| stem.to_string_lossy().into_owned())
        .filter(|stem| !stem.is_empty())
        .unwrap_or_else(|| "batch".to_owned())
}

/// Ctrl-C and SIGTERM, none of them missed from here on.
pub(super) struct Interrupts([Option<unix::Signal>; 2]);

impl Interrupts {
    pub(super) fn listen() -> Self {
        Self([SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).ok()))
    }

    /// Waits for the next one; for ever, where none can be listened for.
    pub(super) async fn next(&mut self) {
        let [int, term] = &mut self.0;
        let heard = async |signal: &mut Option<unix::Signal>| match signal {
            Some(signal) => signal.recv().await,
            None => std::future::pending().await,
        };
        tokio::select! {
            _ = heard(int) => {}
            _ = heard(term) => {}
        }
    }
}
