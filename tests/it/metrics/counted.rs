//! Two workers and a server do a batch's work; what they have counted is what the tables say.

use std::{collections::BTreeMap, process::Command, time::Duration};

use graphmill::{
    extractors::Price,
    flow::{RetryPolicy, Stage},
    pipeline::ModelChoice,
    store::Caps,
    workflow::NewBatch,
};
use uuid::Uuid;

use super::{Page, Process, binary, client, page::sums, queries, worker};
use crate::support::{Ground, ModelServer, Redis, documents, new_batch, poll};

/// What becomes of a call that the ledger has as rejected.
const REJECTED: [&str; 6] = [
    "throttled",
    "blocked",
    "refused",
    "failed",
    "unreachable",
    "unsent",
];

/// A batch that calls the model `mock`, which has a price.
fn batch(name: &str) -> NewBatch {
    let mut batch = NewBatch {
        extractor: "openai".to_owned(),
        model: Some((
            ModelChoice {
                name: "mock".to_owned(),
                price: Price::of_dollars(1.5, Some(0.5), 3.25),
                fresh: false,
            },
            Caps::default(),
        )),
        concurrency: 16,
        ..new_batch(name)
    };
    batch.settings.units.retry = RetryPolicy {
        retries: 100,
        first: Duration::from_millis(10),
        longest: Duration::from_millis(50),
    };
    batch
}

/// A worker that calls models there.
fn calling(ground: &Ground, redis: &Redis, models: &ModelServer) -> Command {
    let mut command = worker(ground, redis);
    command
        .args(["--breaker-failures", "100000"])
        .env("OPENAI_BASE_URL", models.base_url())
        .env("OPENAI_API_KEY", "sk-nobody")
        .env("GRAPHMILL_MODEL", "mock");
    command
}

/// Rows of words with a number at their end.
async fn rows(ground: &Ground, sql: &str) -> BTreeMap<Vec<String>, f64> {
    let rows = ground.texts(sql).await;
    let row = |row: &String| {
        let mut words: Vec<String> = row.split(' ').map(str::to_owned).collect();
        let number = words.pop().unwrap().parse().unwrap();
        (words, number)
    };
    rows.iter().map(row).collect()
}

/// Sums without those that are zero.
fn counted(pages: &[Page], name: &str, by: &[&str]) -> BTreeMap<Vec<String>, f64> {
    let mut sums = sums(pages, name, by);
    sums.retain(|_, value| *value > 0.0);
    sums
}

/// A stage by its activity's name, in SQL.
fn stage_of(column: &str) -> String {
    let whens: Vec<String> = Stage::ALL
        .map(|stage| format!("when '{}' then '{stage}'", stage.activity_name()))
        .into();
    format!("case {column} {} end", whens.join(" "))
}

async fn scrape(processes: &[Process]) -> Vec<Page> {
    let mut pages = Vec::new();
    for process in processes {
        pages.push(process.scrape().await);
    }
    pages
}

/// Waits until the processes have counted what the tables say; they count a moment after they commit.
async fn assert_counted(
    ground: &Ground,
    processes: &[Process],
    (name, by): (&str, &[&str]),
    sql: &str,
) {
    let wanted = rows(ground, sql).await;
    assert!(!wanted.is_empty(), "{sql}");
    let mut last = BTreeMap::new();
    for _ in 0..200 {
        last = counted(&scrape(processes).await, name, by);
        if last == wanted {
            return;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(last, wanted, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a list of numbers")]
async fn what_is_counted_is_what_the_tables_say() {
    let (ground, redis) = (Ground::new().await, Redis::start());
    let models = ModelServer::start(
        r#"
        [[rule]]
        when = { every = 6 }
        then = { fail = { status = 503 } }
        [[rule]]
        when = { every = 7 }
        then = { fail = { status = 429, retry_after = "20ms", retry_form = "milliseconds" } }
        "#,
    )
    .await;
    let serve = ["serve", "--no-keys", "--listen", "127.0.0.1:0"];
    let processes = [
        Process::start(binary(&ground, &redis).args(serve)),
        Process::start(&mut calling(&ground, &redis, &models)),
        Process::start(&mut calling(&ground, &redis, &models)),
    ];
    let batch = batch("a-name-that-nobody-may-see");
    let id = ground.submit(&batch, documents(12)).await;
    // Followed to its end, from its first event on.
    let api = processes[0].api.as_ref().unwrap();
    let url = format!("http://{api}/api/batches/{id}/events?after=0");
    let told = client().get(url).send().await.unwrap().text().await;
    let told = told
        .unwrap()
        .lines()
        .filter(|l| l.starts_with("id:"))
        .count();
    let nothing = format!("http://{api}/api/nothing/{id}");
    assert_eq!(client().get(nothing).send().await.unwrap().status(), 404);
    ground.ended(id).await;

    // Every event is moved once, by whoever is the sequencer.
    let events = "select type || ' ' || count(*) from event group by type";
    let by_event = ("graphmill_events_total", &["event"][..]);
    assert_counted(&ground, &processes, by_event, events).await;
    let activities = format!(
        "select {} || ' ' || status || ' ' || count(*) from workflow_activity group by activity_name, status",
        stage_of("activity_name")
    );
    let by_outcome = ("graphmill_activities_total", &["stage", "outcome"][..]);
    assert_counted(&ground, &processes, by_outcome, &activities).await;
    let ended = format!(
        "select {} || ' ' || count(*) from workflow_activity group by activity_name",
        stage_of("activity_name")
    );
    let took = ("graphmill_activity_duration_seconds_count", &["stage"][..]);
    assert_counted(&ground, &processes, took, &ended).await;
    let retried = "select payload ->> 'stage' || ' ' || count(*) from event
                   where type = 'StageRetried' group by payload ->> 'stage'";
    let again = ("graphmill_activity_retries_total", &["stage"][..]);
    assert_counted(&ground, &processes, again, retried).await;
    let tokens = "select 'openai mock prompt ' || sum(prompt_tokens) from llm_call where outcome = 'answered'
                  union all
                  select 'openai mock completion ' || sum(completion_tokens) from llm_call
                  where outcome = 'answered'";
    let by_kind = (
        "graphmill_model_tokens_total",
        &["provider", "model", "kind"][..],
    );
    assert_counted(&ground, &processes, by_kind, tokens).await;

    let pages = scrape(&processes).await;
    let calls = counted(&pages, "graphmill_model_calls_total", &["outcome"]);
    let of = |outcomes: &[&str]| -> f64 {
        let found = outcomes
            .iter()
            .filter_map(|outcome| calls.get(&vec![(*outcome).to_owned()]));
        found.sum()
    };
    let ledger = rows(
        &ground,
        "select outcome || ' ' || count(*) from llm_call group by outcome",
    )
    .await;
    let filed = |outcome: &str| {
        ledger
            .get(&vec![outcome.to_owned()])
            .copied()
            .unwrap_or(0.0)
    };
    assert_eq!(of(&["answered"]), filed("answered"), "{calls:?}");
    assert_eq!(of(&["cached"]), filed("cached"), "{calls:?}");
    assert_eq!(of(&REJECTED), filed("rejected"), "{calls:?}");
    assert!(
        of(&["throttled"]) > 0.0 && of(&["failed"]) > 0.0,
        "{calls:?}"
    );
    let statuses = models.stats().statuses;
    assert_eq!(of(&["throttled"]), statuses["429"] as f64, "{calls:?}");
    let cost = counted(&pages, "graphmill_model_cost_dollars_total", &["model"]);
    let nanodollars = ground
        .number("select sum(cost * 1e9)::bigint from llm_call where outcome = 'answered'")
        .await;
    let cost = cost[&vec!["mock".to_owned()]];
    assert!(
        (cost * 1e9 - nanodollars as f64).abs() < 1.0,
        "{cost} {nanodollars}"
    );
    let done = "select count(*) from checkpoint where outcome = 'done' and stage <> 'resolve'";
    let done = ground.number(done).await as f64;
    let units = counted(&pages, "graphmill_units_total", &["outcome"]);
    assert_eq!(units[&vec!["done".to_owned()]], done, "{units:?}");

    // The server's own.
    let of_serve = &pages[0];
    let route = ("route", "/api/batches/{batch}/events");
    let requests = |labels: &[(&str, &str)]| of_serve.get("graphmill_http_requests_total", labels);
    assert_eq!(
        requests(&[route, ("status", "2xx"), ("method", "GET")]),
        Some(1.0)
    );
    assert_eq!(requests(&[("route", "-"), ("status", "4xx")]), Some(1.0));
    assert_eq!(
        of_serve.get("graphmill_stream_events_total", &[]),
        Some(told as f64)
    );
    assert_eq!(
        of_serve.get("graphmill_streams_ended_total", &[("reason", "over")]),
        Some(1.0)
    );
    assert_eq!(of_serve.get("graphmill_streams_open", &[]), Some(0.0));
    let lags = of_serve
        .get("graphmill_stream_lag_seconds_count", &[])
        .unwrap();
    assert!(lags > 0.0, "nothing was told as it happened");

    assert_says_nothing_of_anybody(&ground, &pages, &id.to_string()).await;
    assert_is_documented(&pages);
}

/// Every replica says the same of the fleet, once its last look is over.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_agree_about_the_fleet() {
    let (ground, redis) = (Ground::new().await, Redis::start());
    let models = ModelServer::start("latency = \"60s\"").await;
    let processes = [
        Process::start(&mut calling(&ground, &redis, &models)),
        Process::start(binary(&ground, &redis).args([
            "serve",
            "--no-keys",
            "--listen",
            "127.0.0.1:0",
        ])),
    ];
    let id = ground
        .submit(
            &NewBatch {
                concurrency: 3,
                ..batch("stuck")
            },
            documents(8),
        )
        .await;
    let leased = "select count(*) from workflow_execution where lease_until > now()
                  and current_activity = 'extract-mentions'";
    ground.until("three are in work", leased, 3).await;
    let model = ("model", "mock");
    let asked = poll("the look of before is over", async || {
        let pages = scrape(&processes).await;
        let held = |page: &Page| page.get("graphmill_leases", &[("state", "held")]);
        // Windows follow the slots after some seconds; one call at least is in flight.
        let window = pages[0].get("graphmill_window_size", &[("stage", "chunk")]);
        let calls = pages[0].get("graphmill_limiter_permits_in_use", &[model]);
        let settled = window == Some(64.0) && calls.is_some_and(|calls| calls >= 1.0);
        let all = settled && pages.iter().all(|page| held(page) == Some(3.0));
        all.then_some(pages)
    })
    .await;
    for page in &asked {
        let documents = |state| page.get("graphmill_queue_documents", &[("state", state)]);
        assert_eq!(
            ["waiting", "processing", "paused", "failed"].map(documents),
            [Some(5.0), Some(3.0), Some(0.0), Some(0.0)]
        );
        let batches = |state| page.get("graphmill_batches", &[("state", state)]);
        assert_eq!(batches("ExtractingMentions"), Some(1.0));
        assert_eq!(
            page.get("graphmill_leases", &[("state", "expired")]),
            Some(0.0)
        );
        assert_eq!(page.get("graphmill_workers", &[]), Some(1.0));
        assert_eq!(
            page.get("graphmill_worker_slots", &[("stage", "chunk")]),
            Some(32.0)
        );
        for server in ["postgres", "redis"] {
            assert_eq!(page.get("graphmill_up", &[("server", server)]), Some(1.0));
        }
    }
    let own = &asked[0];
    assert_eq!(own.get("graphmill_leases_held", &[]), Some(3.0));
    let breaker = |state| own.get("graphmill_breaker_state", &[model, ("state", state)]);
    assert_eq!(
        ["closed", "open", "half_open"].map(breaker),
        [Some(1.0), Some(0.0), Some(0.0)]
    );
    // A batch that is paused waits for nobody.
    ground
        .execute(format!(
            "update batch set paused_at = now(), pause_reason = 'test' where id = '{}'",
            id.uuid()
        ))
        .await
        .unwrap();
    poll("the pause is seen", async || {
        let page = processes[1].scrape().await;
        let paused = page.get("graphmill_queue_documents", &[("state", "paused")]);
        let batches = page.get("graphmill_batches", &[("state", "paused")]);
        (paused == Some(8.0) && batches == Some(1.0)).then_some(())
    })
    .await;
}

/// A worker dies by `kill -9`; another one finds its lease when it has run out.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_sweeper_finds_is_counted() {
    let (ground, redis) = (Ground::new().await, Redis::start());
    let models = ModelServer::start("latency = \"60s\"").await;
    let first = Process::start(&mut calling(&ground, &redis, &models));
    let id = ground.submit(&batch("left"), documents(1)).await;
    let leased = "select count(*) from workflow_execution where lease_until > now()
                  and current_activity = 'extract-mentions'";
    ground.until("it is in work", leased, 1).await;
    let second = Process::start(&mut calling(&ground, &redis, &models));
    let found = |page: &Page, what| page.get("graphmill_sweeper_found_total", &[("found", what)]);
    assert_eq!(found(&second.scrape().await, "expired_lease"), Some(0.0));
    models.script("");
    first.kill();
    ground.ended(id).await;
    let lost = "select count(*) from workflow_activity where error ->> 'code' = 'lease_lost'";
    assert_eq!(ground.number(lost).await, 1);
    assert_eq!(found(&second.scrape().await, "expired_lease"), Some(1.0));
    let survived = "select count(*) from workflow_activity where status = 'completed'
                    and activity_name <> 'chunk-text'";
    let survived = ground.number(survived).await as f64;
    poll("all is counted but what the first one did", async || {
        let pages = [second.scrape().await];
        let outcomes = counted(&pages, "graphmill_activities_total", &["outcome"]);
        (outcomes.get(&vec!["completed".to_owned()]) == Some(&survived)).then_some(())
    })
    .await;
}

/// Submissions that nobody takes in are seen by a process that takes none in either.
#[tokio::test(flavor = "multi_thread")]
async fn submissions_are_counted_while_they_wait_and_once_they_are_dealt_with() {
    let (ground, redis) = (Ground::new().await, Redis::start());
    let serve = ["serve", "--no-keys", "--listen", "127.0.0.1:0"];
    let server = Process::start(binary(&ground, &redis).args(serve));
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for id in ["submit:a", "submit:b"] {
        let () = redis::pipe()
            .atomic()
            .hset("graphmill:submit:data", id, "neither JSON nor a key")
            .rpush("graphmill:submit:active", id)
            .exec_async(&mut connection)
            .await
            .unwrap();
    }
    let level = |page: &Page, name: &str| page.get(name, &[]);
    poll("they wait", async || {
        let waiting = level(&server.scrape().await, "graphmill_submissions_waiting");
        (waiting == Some(2.0)).then_some(())
    })
    .await;
    let worker = Process::start(&mut worker(&ground, &redis));
    poll("they are dealt with", async || {
        let page = worker.scrape().await;
        let refused = page.get("graphmill_submissions_total", &[("outcome", "refused")]);
        let gone = level(&page, "graphmill_submissions_waiting") == Some(0.0);
        let aside = level(&page, "graphmill_jobs_set_aside") == Some(2.0);
        (refused == Some(2.0) && gone && aside).then_some(())
    })
    .await;
}

/// No label's value is an id, or a name that somebody gave.
async fn assert_says_nothing_of_anybody(ground: &Ground, pages: &[Page], batch: &str) {
    let mut secrets = ground
        .texts(
            "select id::text from worker union all select external_id from document
             union all select id::text from workflow_execution union all select name from organization",
        )
        .await;
    secrets.extend(["a-name-that-nobody-may-see".to_owned(), batch.to_owned()]);
    for (name, labels, _) in pages.iter().flat_map(|page| &page.samples) {
        for (label, value) in labels {
            let said = format!("{name}{{{label}=\"{value}\"}}");
            assert!(!secrets.contains(value), "{said}");
            let words = value.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            for word in words.filter(|word| !word.is_empty()) {
                assert!(Uuid::try_parse(word).is_err(), "{said}");
                let is_hex = word.len() >= 12 && word.bytes().all(|b| b.is_ascii_hexdigit());
                assert!(!is_hex, "{said}");
            }
            assert!(!["worker", "batch", "organization", "id", "execution"].contains(&&**label));
        }
    }
    for page in pages {
        assert!(page.samples.len() < 2_000, "{} series", page.samples.len());
    }
}

/// What is scraped is documented, what is documented is scraped, and what is asked for is there.
fn assert_is_documented(pages: &[Page]) {
    let described = queries::described();
    let mut scraped = std::collections::BTreeSet::new();
    for page in pages {
        scraped.extend(page.names());
        for (name, labels, _) in &page.samples {
            let known = described
                .get(name)
                .unwrap_or_else(|| panic!("`{name}` is not documented"));
            let labels = labels.keys().filter(|label| *label != "le");
            let mut known = known.clone();
            known.sort_unstable();
            assert_eq!(labels.collect::<Vec<_>>(), known, "{name}");
        }
    }
    for name in described.keys() {
        assert!(scraped.contains(name), "`{name}` is not in any scrape");
    }
    for name in queries::metrics_asked_for() {
        assert!(
            name == "up" || scraped.contains(&name),
            "`{name}` is asked for"
        );
    }
}
