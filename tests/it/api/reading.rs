//! What there is, read page by page over HTTP.

use super::*;

/// Every row of a list, fetched in pages of `limit`; what stands in no page twice.
pub(super) async fn all(server: &Server, path: &str, name: &str, limit: u32) -> Vec<Value> {
    let mut rows: Vec<Value> = Vec::new();
    let mut after = String::new();
    let mark = if path.contains('?') { '&' } else { '?' };
    loop {
        let page = object(
            server
                .get(&format!("{path}{mark}limit={limit}{after}"))
                .await,
            200,
        )
        .await;
        let found = page[name].as_array().unwrap();
        assert!(found.len() <= limit as usize, "{page}");
        for row in found {
            assert!(!rows.contains(row), "twice: {row}");
        }
        rows.extend(found.iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return rows,
        }
    }
}

#[tokio::test]
async fn batches_executions_and_what_they_did_are_read_page_by_page() {
    let server = Server::with(&["--with-worker"]).await;
    let texts: Vec<(String, String)> = (0..5)
        .map(|n| {
            (
                format!("{n}.txt"),
                format!("Ada Lovelace met Charles Babbage in London in 184{n}."),
            )
        })
        .collect();
    let texts: Vec<(&str, &str)> = texts
        .iter()
        .map(|(id, text)| (id.as_str(), text.as_str()))
        .collect();
    let mut ids = Vec::new();
    for name in ["one", "two", "three"] {
        let body = with(&documents(&texts), "name", json!(name));
        let opened = object(server.submit(&body).await, 201).await;
        ids.insert(0, opened["batch_id"].as_str().unwrap().to_owned());
    }
    for id in &ids {
        server.ended(id).await;
    }
    let waiting = with(&documents(&[]), "open", json!(true));
    let waiting = object(server.submit(&waiting).await, 201).await;
    let listed = all(&server, "/api/batches?state=Completed", "batches", 1).await;
    let listed: Vec<&str> = listed
        .iter()
        .map(|one| one["batch_id"].as_str().unwrap())
        .collect();
    assert_eq!(listed, ids);
    let listed = all(&server, "/api/batches?state=Pending", "batches", 1).await;
    assert_eq!(listed[0]["batch_id"], waiting["batch_id"]);
    assert_eq!(all(&server, "/api/batches", "batches", 3).await.len(), 4);

    let path = "/api/batches/one/executions";
    let executions = all(&server, path, "executions", 2).await;
    assert_eq!(executions.len(), 6, "five documents and the resolution");
    let completed = all(
        &server,
        &format!("{path}?status=completed"),
        "executions",
        4,
    )
    .await;
    assert_eq!(completed, executions);
    let failed = all(&server, &format!("{path}?status=failed"), "executions", 4).await;
    assert!(failed.is_empty());
    let third = object(server.get(&format!("{path}?document=3.txt")).await, 200).await;
    assert_eq!(third["executions"][0]["document"], "3.txt");
    assert_eq!(third["executions"].as_array().unwrap().len(), 1);

    let id = third["executions"][0]["id"].as_str().unwrap();
    let shown = object(server.get(&format!("/api/executions/{id}")).await, 200).await;
    assert_eq!(shown["status"], "completed");
    assert_eq!(shown["activities"].as_array().unwrap().len(), 5, "{shown}");
    assert!(shown["units"][0]["done"].as_u64().unwrap() > 0, "{shown}");
    problem(server.get("/api/executions/nobody").await, 404).await;

    let calls = object(server.get("/api/batches/one/calls").await, 200).await;
    assert_eq!(
        calls,
        json!({ "calls": [] }),
        "the local extractor calls no model"
    );
    let cost = object(server.get("/api/batches/one/cost").await, 200).await;
    assert_eq!(
        (&cost["calls"], &cost["max_cost"]),
        (&json!(0), &Value::Null)
    );

    for query in [
        "state=Nothing",
        "after=x",
        "limit=0",
        "limit=1001",
        "state=Failed&state=Failed",
    ] {
        problem(server.get(&format!("/api/batches?{query}")).await, 400).await;
    }
    for query in [
        "status=nothing",
        "after=x",
        "document=",
        "document=a%00b",
        "colour=red",
    ] {
        problem(server.get(&format!("{path}?{query}")).await, 400).await;
    }
    server.stop();
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let server = Server::with(&["--with-worker"]).await;
    let body = with(&documents(&[("a", DOCUMENT)]), "name", json!("one"));
    object(server.submit(&body).await, 201).await;
    server.ended("one").await;
    for path in [
        "/api/batches/one",
        "/api/batches/one/export",
        "/api/batches/one/export?format=turtle",
    ] {
        let first = server.get(path).await;
        let tag = first.headers()["etag"].to_str().unwrap().to_owned();
        assert_eq!(first.status(), 200);
        let again = |tag: String| async {
            let request = server
                .request(Method::GET, path)
                .header("if-none-match", tag);
            request.send().await.unwrap()
        };
        let same = again(format!("\"other\", W/{tag}")).await;
        assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(same.headers()["etag"], *tag);
        assert!(same.bytes().await.unwrap().is_empty());
        assert_eq!(again("\"other\"".to_owned()).await.status(), 200);
    }
    // Another try is another answer.
    let tag = |response: &Response| response.headers()["etag"].to_str().unwrap().to_owned();
    let before = tag(&server.get("/api/batches/one/export").await);
    let removed = server.request(Method::DELETE, "/api/batches/one/documents/a");
    object(removed.send().await.unwrap(), 200).await;
    server.ended("one").await;
    assert_ne!(tag(&server.get("/api/batches/one/export").await), before);
    server.stop();
}

#[tokio::test]
async fn a_graph_is_exported_as_the_command_does_it() {
    let server = Server::with(&["--with-worker"]).await;
    let body = with(&documents(&[("a", DOCUMENT)]), "name", json!("one"));
    let opened = object(server.submit(&body).await, 201).await;
    let id = opened["batch_id"].as_str().unwrap();
    server.ended("one").await;
    for (format, ending, kind) in [
        ("json", "json", "application/json"),
        ("turtle", "ttl", "text/turtle; charset=utf-8"),
        ("json-ld", "jsonld", "application/ld+json"),
        ("graphml", "graphml", "application/graphml+xml"),
        ("cypher", "cypher", "text/plain; charset=utf-8"),
    ] {
        let response = server
            .get(&format!("/api/batches/one/export?format={format}"))
            .await;
        assert_eq!(response.headers()["content-type"], kind);
        let file = format!("attachment; filename=\"{id}.{ending}\"");
        assert_eq!(response.headers()["content-disposition"], *file);
        let text = response.text().await.unwrap();
        let redis = server.redis.as_ref().unwrap();
        let said = crate::support::say(
            command(&server.database, redis).args(["export", "one", "--format", format]),
        );
        assert_eq!(said.exits(0).stdout, text, "{format}");
    }
    let based = server
        .get("/api/batches/one/export?format=turtle&base_iri=https%3A%2F%2Fexample.org%2F")
        .await;
    assert!(based.text().await.unwrap().contains("https://example.org/"));
    for query in [
        "format=csv",
        "format=xml",
        "format=json&base_iri=https%3A%2F%2Fa%2F",
        "format=turtle&base_iri=a%20b",
    ] {
        problem(
            server
                .get(&format!("/api/batches/one/export?{query}"))
                .await,
            400,
        )
        .await;
    }
    problem(server.get("/api/batches/two/export").await, 404).await;
    server.stop();
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let mut server = Server::start().await;
    let nobody = problem(server.get("/readyz").await, 503).await;
    assert_eq!(nobody["missing"], json!(["workers"]));
    object(server.get("/healthz").await, 200).await;
    let worker = server.worker();
    let begin = Instant::now();
    let ready = loop {
        let response = server.get("/readyz").await;
        if response.status() == 200 {
            break object(response, 200).await;
        }
        assert!(begin.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(
        (&ready["status"], &ready["workers"]),
        (&json!("ready"), &json!(1))
    );
    let (status, log) = worker.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    // It has signed off.
    let nobody = problem(server.get("/readyz").await, 503).await;
    assert_eq!(nobody["missing"], json!(["workers"]));
    let owner = sqlx::PgPool::connect(server.database.url()).await.unwrap();
    sqlx::raw_sql("delete from _sqlx_migrations where version > 20")
        .execute(&owner)
        .await
        .unwrap();
    owner.close().await;
    server.redis = None;
    let all = problem(server.get("/readyz").await, 503).await;
    assert_eq!(all["missing"], json!(["schema", "workers", "redis"]));
    server.stop();
}

#[tokio::test]
async fn pages_of_other_origins_may_ask_only_if_that_is_said() {
    let server = Server::start().await;
    let preflight = |server: &Server, origin: &str| {
        server
            .request(Method::OPTIONS, "/api/batches")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .send()
    };
    let none = preflight(&server, "https://example.org").await.unwrap();
    assert!(none.headers().get("access-control-allow-origin").is_none());
    server.stop();
    let server = Server::with(&["--cors-origin", "https://example.org"]).await;
    let ours = preflight(&server, "https://example.org").await.unwrap();
    assert_eq!(ours.status(), 200);
    assert_eq!(
        ours.headers()["access-control-allow-origin"],
        "https://example.org"
    );
    let other = preflight(&server, "https://example.com").await.unwrap();
    assert!(other.headers().get("access-control-allow-origin").is_none());
    let asked = server.request(Method::GET, "/api/nothing");
    let asked = asked
        .header("origin", "https://example.org")
        .send()
        .await
        .unwrap();
    assert_eq!(
        asked.headers()["access-control-allow-origin"],
        "https://example.org"
    );
    problem(asked, 404).await;
    server.stop();
}
