//! Signals, over HTTP.

use super::*;

#[tokio::test]
async fn batches_and_executions_are_steered_over_http() {
    let server = Server::start().await;
    let post = async |path: &str| {
        let request = server.request(Method::POST, path);
        request.send().await.unwrap()
    };
    let body = documents(&[("a", DOCUMENT), ("b", "Alan Turing was born in London.")]);
    object(server.submit(&with(&body, "name", json!("one"))).await, 201).await;
    // Asking again for what is so already is answered like the first time.
    for _ in 0..2 {
        object(post("/api/batches/one/pause").await, 202).await;
    }
    let paused = object(server.get("/api/batches/one").await, 200).await;
    assert_eq!(paused["paused"], "by hand", "{paused}");
    let none = problem(post("/api/batches/one/retry").await, 409).await;
    assert!(none["batch_id"].is_string(), "{none}");
    let listed = object(server.get("/api/batches/one/executions").await, 200).await;
    let execution = listed["executions"][0]["id"].as_str().unwrap();
    let steer = async |signal: &str| post(&format!("/api/executions/{execution}/{signal}")).await;
    let sent = object(steer("pause").await, 202).await;
    assert_eq!(sent["outcome"], "delivered", "{sent}");
    object(steer("resume").await, 202).await;
    problem(steer("resume").await, 409).await;
    object(steer("cancel").await, 202).await;
    problem(steer("cancel").await, 409).await;
    problem(steer("pause").await, 409).await;
    problem(steer("retry").await, 409).await;
    problem(post("/api/executions/nobody/cancel").await, 404).await;
    problem(
        post("/api/executions/exec_00000000000070008000000000000001/cancel").await,
        404,
    )
    .await;

    let resume = async |body: Value| {
        let request = server.request(Method::POST, "/api/batches/one/resume");
        request.json(&body).send().await.unwrap()
    };
    for (place, body) in [
        ("max_cost", json!({ "max_cost": -1 })),
        ("max_cost", json!({ "max_cost": 1e10 })),
        ("max_tokens", json!({ "max_tokens": u64::MAX })),
        ("cost", json!({ "cost": 1 })),
    ] {
        let refused = problem(resume(body).await, 422).await;
        assert_eq!(refused["place"], place, "{refused}");
    }
    // It calls no model.
    problem(resume(json!({ "max_cost": 1 })).await, 422).await;
    for _ in 0..2 {
        object(resume(json!({})).await, 202).await;
        object(post("/api/batches/one/resume").await, 202).await;
    }
    let worker = server.worker();
    let report = server.ended("one").await;
    assert_eq!(report["documents"]["cancelled"], 1, "{report}");
    for signal in ["cancel", "pause", "resume"] {
        problem(post(&format!("/api/batches/one/{signal}")).await, 409).await;
        problem(post(&format!("/api/batches/nobody/{signal}")).await, 404).await;
    }
    let retried = object(post("/api/batches/one/retry").await, 202).await;
    assert_eq!(retried["retried"], 1, "{retried}");
    let report = server.ended("one").await;
    assert_eq!(report["documents"]["completed"], 2, "{report}");
    problem(post("/api/batches/one/retry").await, 409).await;
    drop(worker);
    server.stop();
}

#[tokio::test]
async fn an_ended_batch_is_worked_again_over_http() {
    let server = Server::start().await;
    let body = with(&documents(&[("a", DOCUMENT)]), "name", json!("one"));
    object(server.submit(&body).await, 201).await;
    let rerun = async |body: Value| {
        let request = server.request(Method::POST, "/api/batches/one/rerun");
        request.json(&body).send().await.unwrap()
    };
    problem(
        rerun(json!({ "from": "entities", "force": true })).await,
        409,
    )
    .await;
    let worker = server.worker();
    server.ended("one").await;
    for body in [
        json!({ "from": "chunk" }),
        json!({ "from": "Zanzibar" }),
        json!({ "from": "entities", "ontology": "Zanzibar" }),
        json!({ "from": "resolve", "ontology": "server" }),
        json!({ "force": true }),
    ] {
        problem(rerun(body).await, 422).await;
    }
    let nothing = object(rerun(json!({ "from": "entities" })).await, 202).await;
    assert_eq!(nothing["changes"], false, "{nothing}");
    let forced = json!({ "from": "entities", "force": true, "dry_run": true });
    let forecast = object(rerun(forced).await, 200).await;
    assert_eq!(
        (&forecast["dry_run"], &forecast["documents"]),
        (&json!(true), &json!(1))
    );
    let status = object(server.get("/api/batches/one").await, 200).await;
    assert_eq!(status["generation"], 1, "nothing was done");
    let done = object(
        rerun(json!({ "from": "entities", "force": true })).await,
        202,
    )
    .await;
    assert_eq!(
        (&done["documents"], &done["generation"]),
        (&json!(1), &json!(2))
    );
    let report = server.ended("one").await;
    assert_eq!(
        (&report["generation"], &report["state"]),
        (&json!(2), &json!("Completed"))
    );
    drop(worker);
    server.stop();
}
