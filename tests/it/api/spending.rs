//! Prices and caps of a batch that comes over HTTP.

use super::*;
use crate::support::ModelServer;

fn dear(name: &str) -> Value {
    let texts: Vec<(String, String)> = (0..12)
        .map(|at| {
            (
                format!("d{at}"),
                format!("{DOCUMENT} So says letter number {at}."),
            )
        })
        .collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(id, text)| (&**id, &**text)).collect();
    let batch = with(&documents(&texts), "name", json!(name));
    let batch = with(&batch, "extractor", json!("openai"));
    with(&batch, "model", json!("mock"))
}

/// The batch's status, once it is paused.
async fn paused(server: &Server, batch: &str) -> Value {
    crate::support::poll("the batch is paused", async || {
        let status = object(server.get(&format!("/api/batches/{batch}")).await, 200).await;
        status["paused"].is_string().then_some(status)
    })
    .await
}

async fn resume(server: &Server, batch: &str, caps: Value) {
    let request = server.request(Method::POST, &format!("/api/batches/{batch}/resume"));
    object(request.json(&caps).send().await.unwrap(), 202).await;
    let report = server.ended(batch).await;
    assert_eq!(report["documents"]["completed"], 12, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_stops_at_its_caps_and_goes_on_with_higher_ones() {
    let server = Server::start().await;
    let model = ModelServer::start("").await;
    let worker = ["worker", "--openai-base-url", &model.base_url()];
    let _worker = Process::start(&worker, &server.database, server.redis.as_ref().unwrap());

    let tokens = with(&dear("tokens"), "max_tokens", json!(12_000));
    object(server.submit(&tokens).await, 201).await;
    let status = paused(&server, "tokens").await;
    assert!(
        status["paused"].as_str().unwrap().contains("12000"),
        "{status}"
    );
    let cost = object(server.get("/api/batches/tokens/cost").await, 200).await;
    assert_eq!(cost["max_tokens"], 12_000);
    resume(&server, "tokens", json!({ "max_tokens": 100_000_000 })).await;

    // Another text, or the answers were paid for already; as lines, with the options in the query.
    let lines: Vec<String> = dear("dollars")["documents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|document| {
            let text = format!("{} It was 1843.", document["text"].as_str().unwrap());
            with(document, "text", json!(text)).to_string()
        })
        .collect();
    let query =
        "name=dollars&extractor=openai&model=mock&price_input=1&price_output=1&max_cost=0.012";
    let request = server.request(Method::POST, &format!("/api/batches?{query}"));
    let request = request.header("content-type", "application/x-ndjson");
    let opened = request.body(lines.join("\n")).send().await.unwrap();
    object(opened, 201).await;
    paused(&server, "dollars").await;
    let cost = object(server.get("/api/batches/dollars/cost").await, 200).await;
    assert_eq!(cost["max_cost"], 0.012, "{cost}");
    resume(&server, "dollars", json!({ "max_cost": 9 })).await;
    server.stop();
}

#[tokio::test]
async fn a_cap_on_costs_needs_a_price_that_is_sent_or_known() {
    let folder = crate::support::folder("api-prices");
    let config = folder.join("graphmill.toml");
    std::fs::write(&config, "[prices.known]\ninput = 0.5\noutput = 1.0\n").unwrap();
    let server = Server::with(&["--config", config.to_str().unwrap()]).await;
    let capped = with(&dear("capped"), "max_cost", json!(1));
    let refused = problem(server.submit(&capped).await, 422).await;
    assert_eq!(refused["place"], "max_cost");
    assert!(
        refused["detail"].as_str().unwrap().contains("price_input"),
        "{refused}"
    );
    let cases = [
        ("max_cost", with(&capped, "max_cost", json!(-1))),
        ("max_cost", with(&capped, "max_cost", json!("Zanzibar"))),
        ("max_tokens", with(&capped, "max_tokens", json!(1.5))),
        ("price_output", with(&capped, "price_input", json!(1))),
        ("price_input", with(&capped, "price_output", json!(1))),
        (
            "max_tokens",
            with(&documents(&[("a", DOCUMENT)]), "max_tokens", json!(5)),
        ),
    ];
    for (place, body) in cases {
        let refused = problem(server.submit(&body).await, 422).await;
        assert_eq!(refused["place"], place, "{refused}");
    }
    let known = with(&capped, "model", json!("known"));
    object(server.submit(&known).await, 201).await;
    let priced = with(
        &with(&dear("priced"), "price_input", json!(1)),
        "price_output",
        json!(2),
    );
    object(
        server.submit(&with(&priced, "max_cost", json!(1))).await,
        201,
    )
    .await;
    let listed = object(server.get("/api/batches").await, 200).await;
    assert_eq!(
        listed["batches"].as_array().unwrap().len(),
        2,
        "the others are not there"
    );
    server.stop();
}
