//! What changes a batch, over HTTP.

use super::*;

#[tokio::test]
async fn an_open_batch_is_added_to_changed_and_sealed_over_http() {
    let server = Server::start().await;
    let worker = server.worker();
    let post = async |path: &str, body: &Value| {
        let request = server.request(Method::POST, path).json(body);
        request.send().await.unwrap()
    };
    let delete = async |path: &str| {
        let request = server.request(Method::DELETE, path);
        request.send().await.unwrap()
    };
    let opened = json!({ "name": "news", "open": true, "documents": [] });
    let opened = object(server.submit(&opened).await, 201).await;
    assert_eq!(opened["open"], true, "{opened}");
    let path = "/api/batches/news/documents";
    let two = documents(&[("a/1", DOCUMENT), ("b", "Alan Turing was born in London.")]);
    let added = object(post(path, &two).await, 200).await;
    assert_eq!(
        (&added["added"], &added["unchanged"]),
        (&json!(2), &json!(0))
    );
    let mut changed = documents(&[("b", "Grace Hopper was born in New York."), ("c", "")]);
    changed["documents"][1]["text"] = json!(" ");
    let changed = object(post(path, &changed).await, 200).await;
    assert_eq!(
        (&changed["added"], &changed["replaced"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(changed["refused"][0]["document"], "c", "{changed}");
    let wrong = problem(
        post(path, &json!({ "documents": [], "name": "x" })).await,
        422,
    )
    .await;
    assert_eq!(wrong["place"], "name");
    problem(post("/api/batches/nobody/documents", &two).await, 404).await;

    let sealed = object(post("/api/batches/news/seal", &json!({})).await, 202).await;
    assert!(sealed.get("open").is_none(), "{sealed}");
    let report = server.ended("news").await;
    assert_eq!(report["documents"]["completed"], 2, "{report}");
    let again = problem(post("/api/batches/news/seal", &json!({})).await, 409).await;
    let detail = again["detail"].as_str().unwrap();
    assert!(
        detail.contains("ended batch") && detail.contains("Completed"),
        "{again}"
    );

    // An ended one is opened again, and ends again.
    let one = format!("{path}/a%2F1");
    let removed = object(delete(&one).await, 200).await;
    assert_eq!(removed["removed"], 1);
    let report = server.ended("news").await;
    assert_eq!(
        report["documents"]["total"], 2,
        "b, and the refused one: {report}"
    );
    assert_eq!(object(delete(&one).await, 200).await["removed"], 0);
    problem(delete(&format!("{path}/nobody")).await, 404).await;

    drop(worker);
    let waiting = json!({ "name": "waiting", "documents": two["documents"] });
    object(server.submit(&waiting).await, 201).await;
    let refused = problem(post("/api/batches/waiting/documents", &two).await, 409).await;
    assert!(
        refused["detail"].as_str().unwrap().contains("sealed batch"),
        "{refused}"
    );
    server.stop();
}
