//! The board: what its pages show in headless Chromium is what SQL says, and who may look.

use std::{fs, path::Path, process::Command};

use reqwest::{Method, Response};
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;

use super::{DOCUMENT, Server, documents, new_key, object};
use crate::support::{PATIENCE, command, eventually, say, texts};

const STAGES: [(&str, &str); 6] = [
    ("chunk", "chunk-text"),
    ("mentions", "extract-mentions"),
    ("entities", "classify-entities"),
    ("relations", "extract-relations"),
    ("assemble", "assemble-graph"),
    ("resolve", "resolve"),
];

/// A server with a board, and where that is.
async fn boarded(more: &[&str]) -> (Server, String) {
    let more = [&["--board", "127.0.0.1:0"], more].concat();
    let mut server = Server::with(&more).await;
    loop {
        let line = server.process.log.recv_timeout(PATIENCE).unwrap();
        server.process.read.push_str(&line);
        server.process.read.push('\n');
        if let Some(at) = line
            .find("127.0.0.1:")
            .filter(|_| line.contains("the board is there"))
        {
            let rest = &line[at..];
            let end = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ':'));
            let address = format!("http://{}", &rest[..end.unwrap_or(rest.len())]);
            return (server, address);
        }
    }
}

/// The database as its owner sees it, whom no policy binds.
struct Rows(sqlx::PgPool);

impl Rows {
    fn of(server: &Server) -> Self {
        let pool = PgPoolOptions::new().max_connections(1);
        Self(pool.connect_lazy(server.database.url()).unwrap())
    }

    async fn text(&self, sql: impl Into<String>) -> String {
        texts(&self.0, sql).await.pop().expect("a row")
    }

    async fn number(&self, what: &str) -> i64 {
        let sql = format!(
            "select count(*) from workflow_execution e
             where withdrawn_at is null and organization_id = '00000000-0000-7000-8000-000000000001' and ({what})"
        );
        self.text(sql).await.parse().unwrap()
    }

    /// What stands at a stage, by the board's words.
    async fn standing(&self, stage: usize) -> Vec<(&'static str, i64)> {
        let at = format!("current_activity = '{}'", STAGES[stage].1);
        let later: Vec<String> = STAGES[..5]
            .iter()
            .skip(stage + 1)
            .map(|(_, activity)| format!("'{activity}'"))
            .collect();
        let through = if later.is_empty() {
            format!("status = 'completed' and {at}")
        } else {
            format!(
                "workflow_type = 'extraction'
                 and (status = 'completed' or current_activity in ({}))",
                later.join(", ")
            )
        };
        let leased = "coalesce(lease_until > now(), false)";
        let mut standing = Vec::new();
        for (name, what) in [
            (
                "Running Jobs",
                format!("{at} and status = 'processing' and {leased}"),
            ),
            (
                "Queue Backlog",
                format!("{at} and status = 'processing' and not {leased}"),
            ),
            (
                "Pending Jobs",
                format!("{at} and status in ('queued', 'retry')"),
            ),
            ("Done Jobs", through),
            (
                "Failed Jobs",
                format!("{at} and status in ('failed', 'abandoned')"),
            ),
            ("Killed Jobs", format!("{at} and status = 'cancelled'")),
        ] {
            standing.push((name, self.number(&what).await));
        }
        standing
    }
}

/// Opens pages in Chromium, each of which must come to show its texts.
fn look(board: &str, key: &str, pages: &Value) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut node = Command::new("node");
    node.arg(root.join("tests/browser/board.mjs"))
        .env("GRAPHMILL_BOARD", board)
        .env("GRAPHMILL_API_KEY", key)
        .env("GRAPHMILL_PAGES", pages.to_string());
    let said = say(&mut node);
    said.exits(0).stdout
}

/// Batches in every state: one that completed, with a document that was given up; one that was cancelled; one that is
/// paused. And one of somebody else's.
async fn batches(server: &Server, rows: &Rows, theirs: &str) -> (String, super::Process) {
    let texts = |batch: &str, count: usize| {
        let texts: Vec<(String, String)> = (0..count)
            .map(|n| {
                (
                    format!("{batch}-{n}.txt"),
                    format!("{DOCUMENT} {batch} {n}"),
                )
            })
            .collect();
        let texts: Vec<(&str, &str)> = texts
            .iter()
            .map(|(id, text)| (id.as_str(), text.as_str()))
            .collect();
        let mut body = documents(&texts);
        body["name"] = json!(batch);
        body
    };
    let mut ids = Vec::new();
    for (batch, count) in [("done", 3), ("cancelled", 2), ("paused", 4)] {
        let opened = object(server.submit(&texts(batch, count)).await, 201).await;
        ids.push(opened["batch_id"].as_str().unwrap().to_owned());
    }
    for (id, signal) in [(&ids[1], "cancel"), (&ids[2], "pause")] {
        let path = format!("/api/batches/{id}/{signal}");
        let response = server.request(Method::POST, &path).send().await.unwrap();
        assert!(response.status().is_success(), "{response:?}");
    }
    let others = server
        .bare(Method::POST, "/api/batches")
        .bearer_auth(theirs);
    let opened = object(others.json(&texts("theirs", 5)).send().await.unwrap(), 201).await;
    let their_batch = opened["batch_id"].as_str().unwrap().to_owned();
    let worker = server.worker();
    assert_eq!(server.ended(&ids[0]).await["state"], "Completed");
    assert_eq!(server.ended(&ids[1]).await["state"], "Cancelled");
    eventually("their batch has ended", async || {
        let path = format!("/api/batches/{their_batch}");
        let asked = server.bare(Method::GET, &path).bearer_auth(theirs);
        object(asked.send().await.unwrap(), 200).await["state"] == "Completed"
    })
    .await;
    // As if one document had failed in its last stage.
    let given_up = rows
        .text(
            "with given_up as (
                 update workflow_execution e
                 set status = 'abandoned', current_activity = 'extract-relations',
                     error = '{\"code\": \"internal\", \"message\": \"it was too much\", \"retryable\": false}'
                 from document d where d.id = e.document_id and d.external_id = 'done-1.txt'
                 returning e.id, e.batch_id
             ), counted as (
                 update batch b set counts = b.counts || jsonb_build_object(
                     'completed', 2, 'abandoned', 1, 'passed', '[3, 3, 3, 2, 2]'::jsonb)
                 from given_up where b.id = given_up.batch_id
             ), tried as (
                 update workflow_activity a set status = 'failed',
                     error = '{\"code\": \"internal\", \"message\": \"it was too much\", \"retryable\": false}'
                 from given_up where a.workflow_execution_id = given_up.id and a.activity_name = 'extract-relations'
             )
             select 'exec_' || replace(id::text, '-', '') from given_up",
        )
        .await;
    (given_up, worker)
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a list of pages")]
async fn every_page_shows_what_sql_says_and_nothing_of_others() {
    let (server, board) = boarded(&[]).await;
    let redis = server.redis.as_ref().unwrap();
    say(command(&server.database, redis).args(["organization", "create", "others"])).exits(0);
    let theirs = new_key(&server.database, redis, &["--organization", "others"]);
    let rows = Rows::of(&server);
    let (given_up, worker) = batches(&server, &rows, &theirs).await;

    let mut standings = Vec::new();
    for stage in 0..STAGES.len() {
        standings.push(rows.standing(stage).await);
    }
    let mut all: Vec<(&str, i64)> = standings[0].iter().map(|&(name, _)| (name, 0)).collect();
    for standing in &standings {
        for (sum, (_, number)) in all.iter_mut().zip(standing) {
            sum.1 += number;
        }
    }
    let of = |name: &str| all.iter().find(|(all, _)| *all == name).unwrap().1;
    // 3 + 2 documents did not complete all of 5 stages, and one batch was resolved.
    assert_eq!((of("Pending Jobs"), of("Failed Jobs")), (4, 1), "{all:?}");
    assert_eq!(of("Killed Jobs"), 2, "{all:?}");
    assert_eq!(of("Done Jobs"), 3 + 3 + 3 + 2 + 2 + 1, "{all:?}");
    let total: i64 = all.iter().map(|(_, number)| number).sum();
    let success = |of: &[(&str, i64)]| {
        let (done, ended) = (of[3].1, of[3].1 + of[4].1 + of[5].1);
        let share = (done * 10_000).checked_div(ended)?;
        Some(format!("{}.{:02}", share / 100, share % 100))
    };
    let mut overview: Vec<String> = all
        .iter()
        .map(|(name, number)| format!("{name} {number}"))
        .collect();
    overview.push(format!("Total Jobs {total}"));
    overview.push(format!("Success Rate {}", success(&all).unwrap()));
    overview.extend(STAGES.iter().map(|(stage, _)| (*stage).to_owned()));
    let queues: Vec<String> = STAGES
        .iter()
        .zip(&standings)
        .map(|((stage, _), standing)| {
            format!("{stage} {} SUCCESS_RATE", success(standing).unwrap())
        })
        .collect();
    let ids = |what: &str| {
        format!("select 'exec_' || replace(id::text, '-', '') from workflow_execution where {what}")
    };
    let waiting = texts(&rows.0, ids("status = 'queued'")).await;
    assert_eq!(waiting.len(), 4);
    let cancelled = texts(&rows.0, ids("status = 'cancelled'")).await;
    let through = texts(
        &rows.0,
        ids("status = 'completed' and workflow_type = 'extraction'
             and organization_id = '00000000-0000-7000-8000-000000000001'"),
    )
    .await;
    assert_eq!((cancelled.len(), through.len()), (2, 2));
    let worker_id = rows
        .text("select 'worker_' || replace(id::text, '-', '') from worker where seen_at > now() - interval '1 minute'")
        .await;
    let of_theirs = texts(
        &rows.0,
        "select 'exec_' || replace(id::text, '-', '') from workflow_execution
         where organization_id <> '00000000-0000-7000-8000-000000000001'",
    )
    .await;
    assert_eq!(of_theirs.len(), 6);
    let lacks: Vec<&String> = of_theirs.iter().collect();
    let page =
        |path: &str, shows: &[String]| json!({ "path": path, "shows": shows, "lacks": lacks });
    let pages = json!([
        page("/", &overview),
        page("/queues", &queues),
        page("/queues/chunk", std::slice::from_ref(&worker_id)),
        page("/queues/chunk/Pending", &waiting),
        page("/queues/assemble/Done", &through),
        page("/queues/chunk/Killed", &cancelled),
        page("/queues/relations/Failed", std::slice::from_ref(&given_up)),
        page("/tasks", &waiting),
        page(
            &format!("/queues/relations/tasks/{given_up}"),
            &[
                "done-1.txt".to_owned(),
                "it was too much".to_owned(),
                "relations".to_owned()
            ]
        ),
        page("/workers", std::slice::from_ref(&worker_id)),
    ]);
    let said = look(&board, &server.key, &pages);
    assert_eq!(said.lines().count(), 10, "{said}");
    assert!(!said.contains("1970"), "{said}");

    // The others see theirs, and a task of ours is none of theirs.
    let asked = |path: String, key: &str| {
        let request = server.client.get(format!("{board}{path}"));
        let request = request.basic_auth("anybody", Some(key));
        async move { request.send().await.unwrap() }
    };
    let overview = object(asked("/api/v1/overview".into(), &theirs).await, 200).await;
    let done = overview.as_array().unwrap().iter();
    let done = done
        .clone()
        .find(|stat| stat["title"] == "DONE_JOBS")
        .unwrap();
    assert_eq!(done["value"], "26", "{overview}");
    let path = format!("/api/v1/queues/relations/tasks/{given_up}");
    assert_eq!(asked(path.clone(), &theirs).await.status(), 404);
    let ours = asked(path, &server.key).await;
    let task = object(ours, 200).await;
    assert_eq!(task["args"]["document"], "done-1.txt", "{task}");
    for list in [
        "/api/v1/tasks?status=Done",
        "/api/v1/queues/chunk/tasks?status=Done",
    ] {
        let listed = asked(list.into(), &theirs).await.text().await.unwrap();
        assert!(listed.contains(&of_theirs[0]), "{listed}");
        assert!(
            !listed.contains(&given_up) && !listed.contains(&through[0]),
            "{listed}"
        );
    }
    let (status, log) = worker.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    server.stop();
}

async fn refused(response: Response, status: u16) -> String {
    assert_eq!(response.status(), status, "{response:?}");
    let challenge = response.headers().get("www-authenticate");
    let challenge = challenge.map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(challenge.is_some(), status == 401, "{challenge:?}");
    assert!(challenge.is_none_or(|challenge| challenge.starts_with("Basic ")));
    response.text().await.unwrap()
}

#[tokio::test]
async fn nobody_looks_without_a_key_and_nobody_changes_anything() {
    let (server, board) = boarded(&[]).await;
    let redis = server.redis.as_ref().unwrap();
    let reader = new_key(&server.database, redis, &["--scope", "read"]);
    let revoked = new_key(&server.database, redis, &[]);
    let prefix = revoked.rsplit_once('_').unwrap().0;
    say(command(&server.database, redis).args(["keys", "revoke", prefix])).exits(0);
    let expired = new_key(&server.database, redis, &["--expires", "1s"]);
    let ask = |method: Method, path: &str| server.client.request(method, format!("{board}{path}"));
    let wasm = {
        let page = ask(Method::GET, "/").basic_auth("", Some(&reader));
        let page = page.send().await.unwrap();
        assert_eq!(page.status(), 200);
        let policy = page.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(page.headers()["x-content-type-options"], "nosniff");
        let html = page.text().await.unwrap();
        let at = html.find("/apalis-board-web-").unwrap();
        let end = html[at..].find('\'').unwrap();
        html[at..at + end].to_owned()
    };
    eventually("a key expires", async || {
        let asked = ask(Method::GET, "/").basic_auth("x", Some(&expired));
        asked.send().await.unwrap().status() == 401
    })
    .await;
    for path in [
        "/",
        "/queues",
        &wasm,
        "/api/v1/overview",
        "/api/v1/events",
        "/api/v1/queues/chunk/tasks",
    ] {
        let bare = refused(ask(Method::GET, path).send().await.unwrap(), 401).await;
        assert!(bare.contains("API key"), "{bare}");
        for key in [&revoked, &expired, &format!("{reader}x"), &String::new()] {
            let shown = ask(Method::GET, path).basic_auth("x", Some(key));
            let said = refused(shown.send().await.unwrap(), 401).await;
            assert!(!said.contains("gm_"), "{said}");
        }
        // A name is no key.
        let shown = ask(Method::GET, path).basic_auth(&reader, Some(""));
        refused(shown.send().await.unwrap(), 401).await;
    }
    for (method, path) in [
        (Method::PUT, "/api/v1/queues/chunk/tasks"),
        (Method::POST, "/api/v1/queues/chunk/tasks"),
        (Method::DELETE, "/api/v1/queues/chunk"),
        (Method::PUT, "/"),
    ] {
        refused(ask(method.clone(), path).send().await.unwrap(), 401).await;
        let shown = ask(method, path).basic_auth("x", Some(&server.key));
        let shown = shown
            .json(&json!({ "execution": "x" }))
            .send()
            .await
            .unwrap();
        assert_eq!(shown.headers()["allow"], "GET, HEAD");
        let said = refused(shown, 405).await;
        assert!(said.contains("only shows"), "{said}");
    }
    // Nothing that can be asked breaks a page.
    for path in [
        "/api/v1/tasks?page=0&page_size=0",
        "/api/v1/tasks?page=4294967295&page_size=4294967295&status=Running",
        "/api/v1/tasks?status=&queue=x&sort=y:desc",
        "/api/v1/tasks?status=Nonsense",
        "/api/v1/queues/resolve/tasks?status=Killed&page=3",
    ] {
        let shown = ask(Method::GET, path).basic_auth("x", Some(&reader));
        let listed = object(shown.send().await.unwrap(), 200).await;
        assert_eq!(listed, json!([]), "{path}");
    }
    for path in [
        "/api/v1/queues/nonsense/tasks",
        "/nonsense.js",
        "/api/v1/queues/chunk/tasks/x",
    ] {
        let shown = ask(Method::GET, path).basic_auth("x", Some(&reader));
        assert_eq!(shown.send().await.unwrap().status(), 404, "{path}");
    }
    let (status, log) = server.process.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    for key in [&reader, &revoked, &expired, &server.key] {
        assert!(!log.contains(&key[15..]), "{log}");
    }
}

#[test]
fn the_board_is_beyond_loopback_only_with_keys() {
    let said = say(crate::support::bare().args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--no-keys",
        "--board",
        "0.0.0.0:0",
    ]))
    .exits(2);
    assert!(said.stderr.contains("--board 0.0.0.0:0"), "{said:?}");
}

#[test]
fn our_script_is_a_script() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/board/queues.js");
    assert!(fs::read_to_string(&script).unwrap().starts_with("//"));
    say(Command::new("node").arg("--check").arg(script)).exits(0);
}
