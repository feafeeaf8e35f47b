//! The graph, asked over HTTP.

use super::{reading::all, *};

const OTHER: &str =
    "Charles Babbage was born in London. Ada Lovelace wrote to Charles Babbage about the engine.";

async fn ground() -> Server {
    let server = Server::with(&["--with-worker"]).await;
    for (name, texts) in [
        ("one", [("a", DOCUMENT), ("b", OTHER)]),
        (
            "two",
            [
                ("c", "Ada Lovelace lived in London with Lord Byron."),
                ("d", "Grace Hopper worked at Harvard University in 1944."),
            ],
        ),
    ] {
        let body = with(&documents(&texts), "name", json!(name));
        object(server.submit(&body).await, 201).await;
        server.ended(name).await;
    }
    server
}

fn names(rows: &[Value]) -> Vec<&str> {
    rows.iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn entities_are_found_by_name_beginning_words_class_and_batch() {
    let server = ground().await;
    let everything = all(&server, "/api/entities", "entities", 3).await;
    let mut sorted = names(&everything);
    sorted.sort_by_key(|name| name.to_lowercase());
    assert_eq!(names(&everything), sorted, "by name");
    let mut of_batches = 0;
    for batch in ["one", "two"] {
        let of = all(
            &server,
            &format!("/api/entities?batch={batch}"),
            "entities",
            2,
        )
        .await;
        of_batches += of.len();
        let export = object(
            server.get(&format!("/api/batches/{batch}/export")).await,
            200,
        )
        .await;
        assert_eq!(of.len(), export["entities"].as_array().unwrap().len());
    }
    assert_eq!(everything.len(), of_batches);

    let ada = all(&server, "/api/entities?name=ADA%20lovelace", "entities", 1).await;
    assert_eq!(names(&ada), ["Ada Lovelace"; 3]);
    let in_two = all(
        &server,
        "/api/entities?name=Ada%20Lovelace&batch=two",
        "entities",
        1,
    )
    .await;
    assert_eq!(in_two.len(), 1);
    assert_eq!(in_two[0]["document"], "c");
    let prefix = all(&server, "/api/entities?prefix=ada", "entities", 2).await;
    assert_eq!(prefix.len(), 3);
    assert!(
        all(&server, "/api/entities?name=ada", "entities", 2)
            .await
            .is_empty()
    );
    let words = all(&server, "/api/entities?q=lovelace", "entities", 1).await;
    assert_eq!(words.len(), 3);
    let words = all(
        &server,
        "/api/entities?q=hopper%20or%20babbage&type=person",
        "entities",
        1,
    )
    .await;
    assert!(words.len() >= 3, "{words:?}");
    assert!(words.iter().all(|row| row["type"] == "person"));
    for nothing in [
        "lovelace%20-ada",
        "-ada",
        "...",
        "zanzibar",
        "1%27%20or%20true",
    ] {
        let path = format!("/api/entities?q={nothing}");
        assert!(
            all(&server, &path, "entities", 5).await.is_empty(),
            "{nothing}"
        );
    }
    for query in [
        "q=a&name=b",
        "name=",
        "prefix=%00",
        "after=zz",
        "batch=",
        "limit=0",
        "q=a&after=x.1",
    ] {
        let response = server.get(&format!("/api/entities?{query}")).await;
        let status = if query == "batch=" { 404 } else { 400 };
        problem(response, status).await;
    }
    server.stop();
}

#[tokio::test]
async fn an_entity_comes_with_its_evidence_and_neighbours() {
    let server = ground().await;
    let ada = all(
        &server,
        "/api/entities?name=Ada%20Lovelace&batch=one",
        "entities",
        10,
    )
    .await;
    let ada = ada.iter().find(|row| row["document"] == "a").unwrap();
    let id = ada["entity_id"].as_str().unwrap();
    let shown = object(server.get(&format!("/api/entities/{id}")).await, 200).await;
    assert_eq!(shown["document"], "a");
    let characters: Vec<char> = DOCUMENT.chars().collect();
    for mention in shown["evidence"].as_array().unwrap() {
        let at = |name: &str| usize::try_from(mention[name].as_u64().unwrap()).unwrap();
        let said: String = characters[at("start")..at("end")].iter().collect();
        assert_eq!(mention["text"], *said, "{mention}");
    }
    let along = shown["relations"].as_array().unwrap();
    assert!(!along.is_empty(), "{shown}");
    let found = all(
        &server,
        &format!("/api/relations?entity={id}"),
        "relations",
        1,
    )
    .await;
    assert_eq!(&found, along);
    for relation in &found {
        let (subject, object) = (&relation["subject"], &relation["object"]);
        assert!(subject["entity_id"] == *id || object["entity_id"] == *id);
        for evidence in relation["evidence"].as_array().unwrap() {
            assert!(DOCUMENT.contains(evidence["text"].as_str().unwrap()));
        }
        let by_both = format!(
            "/api/relations?subject={}&object={}&predicate={}",
            subject["entity_id"].as_str().unwrap(),
            object["entity_id"].as_str().unwrap(),
            relation["predicate"].as_str().unwrap()
        );
        let same = all(&server, &by_both, "relations", 5).await;
        assert!(same.contains(relation), "{same:?}");
    }
    // A cluster stands for its members, in every batch.
    let cluster = shown["cluster_id"].as_str().unwrap();
    let of_cluster = all(
        &server,
        &format!("/api/relations?entity={cluster}"),
        "relations",
        2,
    )
    .await;
    assert!(of_cluster.len() > found.len(), "{of_cluster:?}");
    let mut exported = 0;
    for batch in ["one", "two"] {
        let of = all(
            &server,
            &format!("/api/relations?batch={batch}"),
            "relations",
            2,
        )
        .await;
        let export = object(
            server.get(&format!("/api/batches/{batch}/export")).await,
            200,
        )
        .await;
        assert_eq!(of.len(), export["relations"].as_array().unwrap().len());
        exported += of.len();
    }
    assert_eq!(
        all(&server, "/api/relations", "relations", 2).await.len(),
        exported
    );
    let predicate = found[0]["predicate"].as_str().unwrap();
    let same = all(
        &server,
        &format!("/api/relations?predicate={predicate}"),
        "relations",
        2,
    )
    .await;
    assert!(!same.is_empty() && same.iter().all(|row| row["predicate"] == *predicate));

    problem(server.get("/api/entities/nobody").await, 404).await;
    for query in [
        "subject=nobody",
        "after=1",
        "predicate=",
        "entity=exec_00000000000070008000000000000001",
    ] {
        problem(server.get(&format!("/api/relations?{query}")).await, 400).await;
    }
    server.stop();
}

#[tokio::test]
async fn clusters_and_what_lies_around_them_are_found_in_all_batches_or_one() {
    let server = ground().await;
    let ada = all(&server, "/api/entities?name=Ada%20Lovelace", "entities", 10).await;
    let cluster = ada[0]["cluster_id"].as_str().unwrap();
    assert!(
        ada.iter().all(|row| row["cluster_id"] == *cluster),
        "{ada:?}"
    );
    let path = format!("/api/clusters/{cluster}");
    let shown = object(server.get(&path).await, 200).await;
    assert_eq!(
        (&shown["name"], &shown["total"]),
        (&json!("Ada Lovelace"), &json!(3))
    );
    let members = all(&server, &path, "members", 1).await;
    assert_eq!(members.len(), 3);
    assert_eq!(
        all(&server, &format!("{path}?batch=two"), "members", 1)
            .await
            .len(),
        1
    );
    problem(server.get("/api/clusters/nobody").await, 404).await;

    let around = |more: &str| server.get_owned(format!("/api/subgraph?around={cluster}{more}"));
    let near = object(around("").await, 200).await;
    let far = object(around("&depth=3").await, 200).await;
    let count = |graph: &Value, what: &str| graph[what].as_array().unwrap().len();
    assert_eq!(near["around"], *cluster);
    assert_eq!(near["nodes"][0]["id"], *cluster);
    assert!(count(&near, "edges") > 0, "{near}");
    assert!(count(&far, "nodes") >= count(&near, "nodes"));
    for graph in [&near, &far] {
        let known: Vec<&Value> = graph["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| &node["id"])
            .collect();
        for edge in graph["edges"].as_array().unwrap() {
            assert!(
                known.contains(&&edge["subject"]) && known.contains(&&edge["object"]),
                "{edge}"
            );
        }
        assert_eq!(graph["cut"], false);
    }
    let small = object(around("&nodes=2&depth=2").await, 200).await;
    assert_eq!((count(&small, "nodes"), &small["cut"]), (2, &json!(true)));
    let in_two = object(around("&batch=two&depth=3").await, 200).await;
    assert!(count(&in_two, "nodes") < count(&far, "nodes"), "{in_two}");
    // An entity stands for its cluster.
    let entity = ada[0]["entity_id"].as_str().unwrap();
    let of_entity = object(
        server.get(&format!("/api/subgraph?around={entity}")).await,
        200,
    )
    .await;
    assert_eq!(of_entity, near);
    for query in ["", "around=nobody", "around=cluster_1", "depth=1"] {
        problem(server.get(&format!("/api/subgraph?{query}")).await, 400).await;
    }
    for more in ["&depth=0", "&depth=4", "&nodes=0", "&nodes=1001"] {
        problem(around(more).await, 400).await;
    }
    problem(around("&batch=nobody").await, 404).await;

    // What is withdrawn is found no more.
    let removed = server.request(Method::DELETE, "/api/batches/two/documents/c");
    object(removed.send().await.unwrap(), 200).await;
    server.ended("two").await;
    let left = all(&server, "/api/entities?q=lovelace", "entities", 10).await;
    assert!(left.iter().all(|row| row["document"] != "c"), "{left:?}");
    assert_eq!(left.len(), 2);
    assert_eq!(all(&server, &path, "members", 10).await.len(), 2);
    server.stop();
}
