//! Submissions as lines and as files, and submissions that are sent again.

use std::io::{Read, Write as _};
use std::net::TcpStream;

use super::{reading::all, *};

const LINES: &str = "application/x-ndjson";

fn line(id: &str, text: &str) -> String {
    format!("{}\n", json!({ "id": id, "text": text }))
}

async fn send(
    server: &Server,
    query: &str,
    kind: &str,
    key: Option<&str>,
    body: impl Into<reqwest::Body>,
) -> Response {
    let mut request = server
        .request(Method::POST, &format!("/api/batches{query}"))
        .header("content-type", kind);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    request.body(body).send().await.unwrap()
}

fn failures(report: &Value) -> Vec<String> {
    let mut failures: Vec<String> = report["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| format!("{} {}", failure["document"], failure["code"]).replace('"', ""))
        .collect();
    failures.sort();
    failures
}

#[tokio::test]
async fn lines_are_taken_in_as_they_come_and_bad_ones_are_refused_by_number() {
    let server = Server::with(&["--with-worker", "--max-document-bytes", "1000"]).await;
    let mut body = line("a", DOCUMENT);
    body.push_str("Zanzibar\n\n");
    body.push_str(&line("a", "Alan Turing was born in London."));
    body.push_str("{\"id\":\"b\"}\n");
    body.push_str(&line("large", &"x ".repeat(600)));
    body.push_str(&"y".repeat(2 << 20));
    body.push('\n');
    body.push_str(line("c", "Grace Hopper worked at Harvard University.").trim_end());
    let opened = object(
        send(&server, "?name=lines&concurrency=2", LINES, None, body).await,
        201,
    )
    .await;
    assert_eq!(
        (&opened["name"], &opened["documents"]["total"]),
        (&json!("lines"), &json!(7))
    );
    let report = server.ended("lines").await;
    assert_eq!(report["documents"]["completed"], 2, "{report}");
    assert_eq!(
        failures(&report),
        [
            "a (line 4) duplicate_id",
            "large too_large",
            "line 2 broken_line",
            "line 5 broken_line",
            "line 7 too_large",
        ]
    );
    for (query, status) in [
        ("?name=lines", 409),
        ("?concurrency=0", 422),
        ("?extractor=Zanzibar", 422),
        ("?colour=red", 400),
        ("?open=maybe", 400),
    ] {
        problem(
            send(&server, query, LINES, None, line("a", "Zanzibar")).await,
            status,
        )
        .await;
    }
    problem(send(&server, "", LINES, None, "\n \n").await, 422).await;
    problem(
        send(&server, "?name=x", "application/json", None, "{}").await,
        400,
    )
    .await;
    let open = object(
        send(&server, "?open=true&name=empty", LINES, None, "").await,
        201,
    )
    .await;
    assert_eq!(open["open"], true);
    assert_eq!(all(&server, "/api/batches", "batches", 10).await.len(), 2);
    server.stop();
}

#[tokio::test]
async fn files_of_a_form_are_documents() {
    let server = Server::with(&[
        "--with-worker",
        "--max-document-bytes",
        "1000",
        "--max-upload-bytes",
        "100000",
    ])
    .await;
    let form = |parts: &[(&str, &[u8])]| {
        let mut body = Vec::new();
        for (name, content) in parts {
            let head =
                format!("--limit\r\ncontent-disposition: form-data; name=\"files\"{name}\r\n\r\n");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--limit--\r\n");
        body
    };
    let kind = "multipart/form-data; boundary=limit";
    let body = form(&[
        ("; filename=\"a.txt\"", DOCUMENT.as_bytes()),
        ("; filename=\"b.txt\"", b"Zanzibar\xFF"),
        ("; filename=\"a.txt\"", b"Alan Turing was born in London."),
        ("; filename=\"large.txt\"", &[b'x'; 2000]),
        ("; filename=\" \"", b"Zanzibar"),
    ]);
    let opened = object(send(&server, "?name=files", kind, None, body).await, 201).await;
    assert_eq!(opened["documents"]["total"], 5);
    let report = server.ended("files").await;
    assert_eq!(report["documents"]["completed"], 1, "{report}");
    assert_eq!(
        failures(&report),
        [
            "a.txt (file 3) duplicate_id",
            "b.txt not_utf8",
            "file 5 broken_line",
            "large.txt too_large"
        ]
    );
    let named = form(&[("", b"Zanzibar")]);
    problem(send(&server, "", kind, None, named).await, 422).await;
    let large = form(&[("; filename=\"a\"", &vec![b'x'; 200_000])]);
    problem(send(&server, "", kind, None, large).await, 413).await;
    problem(
        send(&server, "", LINES, None, vec![b'x'; 200_000]).await,
        413,
    )
    .await;
    problem(
        send(&server, "", "multipart/form-data", None, "x").await,
        400,
    )
    .await;
    problem(send(&server, "", kind, None, "Zanzibar").await, 400).await;
    assert_eq!(all(&server, "/api/batches", "batches", 10).await.len(), 1);
    server.stop();
}

#[tokio::test]
async fn what_is_sent_again_with_its_key_is_the_same_batch() {
    let server = Server::start().await;
    let body = with(&documents(&[("a", DOCUMENT)]), "name", json!("one")).to_string();
    let kind = "application/json";
    // All at once: one of them opens the batch.
    let together = (0..8).map(|_| send(&server, "", kind, Some("key-1"), body.clone()));
    let mut answers = Vec::new();
    for response in futures_util::future::join_all(together).await {
        answers.push(object(response, 201).await);
    }
    assert!(
        answers
            .iter()
            .all(|answer| answer["batch_id"] == answers[0]["batch_id"]),
        "{answers:?}"
    );
    let again = send(&server, "", kind, Some("key-1"), body.clone()).await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    let first = object(again, 201).await;
    let worker = server.worker();
    server.ended("one").await;
    drop(worker);
    let later = object(
        send(&server, "", kind, Some("key-1"), body.clone()).await,
        201,
    )
    .await;
    assert_eq!(
        later, first,
        "the first answer, whatever has happened since"
    );

    let other = documents(&[("a", "Zanzibar")]).to_string();
    let refused = problem(
        send(&server, "", kind, Some("key-1"), other.clone()).await,
        422,
    )
    .await;
    assert_eq!(refused["place"], "idempotency-key");
    problem(
        send(&server, "", LINES, Some("key-1"), line("a", DOCUMENT)).await,
        422,
    )
    .await;
    problem(
        send(&server, "", kind, Some("key-2"), body.clone()).await,
        409,
    )
    .await;
    for key in ["", "a b", &"x".repeat(256)] {
        problem(send(&server, "", kind, Some(key), body.clone()).await, 400).await;
    }
    // A key that failed is free, and so is one of more than a day ago.
    object(
        send(&server, "", kind, Some("key-2"), other.clone()).await,
        201,
    )
    .await;
    let owner = sqlx::PgPool::connect(server.database.url()).await.unwrap();
    sqlx::raw_sql("update idempotency_key set created_at = now() - interval '25 hours'")
        .execute(&owner)
        .await
        .unwrap();
    let fresh = send(&server, "", kind, Some("key-1"), other).await;
    assert!(fresh.headers().get("idempotency-replayed").is_none());
    object(fresh, 201).await;
    let keys = crate::support::texts(&owner, "select count(*) from idempotency_key").await;
    assert_eq!(keys, ["1"], "what is forgotten is swept");
    owner.close().await;
    server.stop();
}

/// Begins to send a body and leaves before its end.
fn cut_off(server: &Server, path: &str, key: &str, body: &str) {
    let address = server.address.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: {LINES}\r\n{key}transfer-encoding: chunked\r\n\r\n\
         {:x}\r\n{body}\r\n",
        server.key,
        body.len()
    )
    .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
}

#[tokio::test]
async fn what_was_cut_off_is_gone_on_with_under_its_key_and_cancelled_without() {
    let server = Server::start().await;
    let lines: Vec<String> = (0..1200)
        .map(|n| {
            line(
                &format!("{n}"),
                &format!("Ada Lovelace met number {n} in London."),
            )
        })
        .collect();
    let part = lines[..700].concat();
    cut_off(
        &server,
        "/api/batches?name=kept",
        "idempotency-key: k\r\n",
        &part,
    );
    cut_off(&server, "/api/batches?name=left", "", &part);
    let worker = server.worker();
    assert_eq!(server.ended("left").await["state"], "Cancelled");
    drop(worker);
    let kept = object(server.get("/api/batches/kept").await, 200).await;
    assert_ne!(kept["state"], "Cancelled");

    // Another body is found out before anything of it is added.
    let mut other = lines.clone();
    other[3] = line("3", "Zanzibar");
    let refused = send(&server, "?name=kept", LINES, Some("k"), other.concat()).await;
    problem(refused, 422).await;
    let short = send(
        &server,
        "?name=kept",
        LINES,
        Some("k"),
        lines[..10].concat(),
    )
    .await;
    problem(short, 422).await;
    problem(
        send(&server, "?name=other", LINES, Some("k"), lines.concat()).await,
        422,
    )
    .await;

    let whole = send(&server, "?name=kept", LINES, Some("k"), lines.concat()).await;
    assert_eq!(whole.headers()["idempotency-replayed"], "true");
    let whole = object(whole, 201).await;
    assert_eq!(whole["batch_id"], kept["batch_id"]);
    let again = object(
        send(&server, "?name=kept", LINES, Some("k"), lines.concat()).await,
        201,
    )
    .await;
    assert_eq!(again, whole);
    problem(
        send(&server, "?name=kept", LINES, Some("k"), part).await,
        422,
    )
    .await;
    let executions = all(&server, "/api/batches/kept/executions", "executions", 1000).await;
    assert_eq!(executions.len(), 1200, "each once");
    assert!(whole["failures"].as_array().unwrap().is_empty(), "{whole}");
    server.stop();
}

/// Resident memory of a process, in bytes.
fn resident(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

#[tokio::test]
async fn a_body_of_a_hundred_megabytes_takes_no_more_memory_than_a_small_one() {
    let server = Server::start().await;
    let text = "Ada Lovelace met Charles Babbage in London. ".repeat(220);
    let body = |lines: u64| {
        (0..lines)
            .map(|n| line(&n.to_string(), &format!("{n} {text}")))
            .collect::<String>()
    };
    object(send(&server, "", LINES, None, body(1000)).await, 201).await;
    let before = resident(&server.process);
    let sent = object(send(&server, "", LINES, None, body(10_500)).await, 201).await;
    assert_eq!(sent["documents"]["total"], 10_500);
    let more = resident(&server.process).saturating_sub(before);
    assert!(more < 60 << 20, "{more} bytes more for ten times as much");
    server.stop();
}

#[tokio::test]
async fn a_batch_that_is_written_with_others_is_like_one_that_is_written_alone() {
    let server = Server::start().await;
    let mut body = documents(&[("a", DOCUMENT), ("b", "Alan Turing was born in London.")]);
    body["documents"][0]["title"] = json!("Ada");
    body["documents"][0]["source_uri"] = json!("https://example.org/ada");
    body["documents"][0]["metadata"] = json!({ "year": 1843 });
    body["max_failures"] = json!("5%");
    body["weight"] = json!(7);
    // With a key it goes by itself.
    let kind = "application/json";
    let alone = with(&body, "name", json!("alone")).to_string();
    let alone = object(send(&server, "", kind, Some("k"), alone).await, 201).await;
    // Many at once, so that they go together, and one of them has a name that is taken.
    let together = (0..20).map(|n| {
        let name = if n == 7 {
            "alone".to_owned()
        } else {
            format!("together {n:02}")
        };
        send(
            &server,
            "",
            kind,
            None,
            with(&body, "name", json!(name)).to_string(),
        )
    });
    for (n, response) in futures_util::future::join_all(together)
        .await
        .into_iter()
        .enumerate()
    {
        if n == 7 {
            let taken = problem(response, 409).await;
            assert_eq!(taken["name"], "alone");
            continue;
        }
        let mut answer = object(response, 201).await;
        for own in ["batch_id", "name", "duration_ms"] {
            answer[own] = alone[own].clone();
        }
        assert_eq!(answer, alone);
    }
    let owner = sqlx::PgPool::connect(server.database.url()).await.unwrap();
    for (table, own) in [
        ("batch", "id name created_at updated_at sealed_at"),
        ("document", "id batch_id created_at"),
        (
            "workflow_execution",
            "id batch_id document_id created_at updated_at due_at",
        ),
    ] {
        let own: Vec<String> = own.split(' ').map(|name| format!(" - '{name}'")).collect();
        let own = own.concat();
        let batch = if table == "batch" { "id" } else { "batch_id" };
        let rows = crate::support::texts(
            &owner,
            format!(
                "select string_agg((to_jsonb(t){own})::text, E'\\n' order by t.id) from {table} t group by {batch}"
            ),
        )
        .await;
        assert_eq!(rows.len(), 20, "{table}");
        assert!(rows.iter().all(|row| *row == rows[0]), "{table}: {rows:#?}");
    }
    let events = crate::support::texts(
        &owner,
        "select string_agg(type || (payload - 'name')::text, ' ' order by id) from event_outbox group by batch_id",
    )
    .await;
    assert_eq!(events.len(), 20);
    assert!(events.iter().all(|told| *told == events[0]), "{events:#?}");
    owner.close().await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn submissions_with_keys_are_written_together_and_each_key_is_one_batch() {
    const KEYS: usize = 150;
    let server = Server::start().await;
    let redis = server.redis.as_ref().unwrap();
    let (second, address) = serving(&server.database, redis, &[]);
    let mut asking = tokio::task::JoinSet::new();
    // Each twice, of two replicas: some meet in one group, some in two transactions, and some come later.
    for at in 0..2 * KEYS {
        let to = if at % 3 == 0 {
            &address
        } else {
            &server.address
        };
        let request = server.client.post(format!("{to}/api/batches"));
        let request = request.bearer_auth(&server.key);
        asking.spawn(async move {
            let key = at % KEYS;
            let text = format!("Ada Lovelace met number {key} in London.");
            let body = with(
                &documents(&[("a", &text)]),
                "name",
                json!(format!("named-{key}")),
            );
            let request = request.json(&body);
            let response = request
                .header("idempotency-key", format!("k{key}"))
                .send()
                .await;
            let response = response.unwrap();
            let again = response.headers().contains_key("idempotency-replayed");
            let status = response.status();
            let text = response.text().await.unwrap();
            assert_eq!(status, 201, "{text}");
            (key, again, text)
        });
    }
    let mut first: std::collections::BTreeMap<usize, String> = std::collections::BTreeMap::new();
    let mut repeated = 0;
    for (key, again, text) in asking.join_all().await {
        repeated += usize::from(again);
        let known = first.entry(key).or_insert_with(|| text.clone());
        assert_eq!(*known, text, "a repeat is answered to the byte");
    }
    assert_eq!((first.len(), repeated), (KEYS, KEYS));
    let owner = sqlx::PgPool::connect(server.database.url()).await.unwrap();
    let counted = async |sql: &str| {
        let texts = crate::support::texts(&owner, sql).await;
        texts[0].parse::<usize>().unwrap()
    };
    assert_eq!(counted("select count(*) from batch").await, KEYS);
    assert_eq!(
        counted("select count(*) from workflow_execution").await,
        KEYS
    );
    // A row's transaction: many have the same one.
    let commits = counted("select count(distinct xmin::text) from idempotency_key").await;
    assert!(commits < KEYS / 2, "{commits} commits for {KEYS}");
    drop(second);
    server.stop();
}
