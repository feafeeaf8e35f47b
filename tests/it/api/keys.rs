//! Who is let in over HTTP, and that nobody crosses: every route with every wrong key; the routes are those that the
//! server says it has.

use std::collections::BTreeMap;

use super::*;
use crate::support::{bare, eventually, folder};

/// Routes that need no key.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/openapi.json", "/docs"];
/// POSTs that change nothing.
const READING: [&str; 1] = ["/api/stream-tokens"];

/// A route, a path of it that names our things, and what its query may hold.
struct Route {
    method: Method,
    template: String,
    path: String,
    query: Vec<String>,
}

impl Route {
    /// It names a thing of an organization.
    fn names(&self) -> bool {
        self.template.contains('{')
    }

    fn writes(&self) -> bool {
        self.method != Method::GET && !READING.contains(&self.template.as_str())
    }
}

/// What is there of ours, by the names that paths have for it.
struct Things(BTreeMap<&'static str, String>);

impl Things {
    fn of(&self, kind: &str) -> &str {
        let id = self.0.get(kind);
        id.unwrap_or_else(|| {
            panic!("`{{{kind}}}` is a new kind: give it the id of a thing of ours")
        })
    }

    /// The path of a template, with our things for its parameters.
    fn path(&self, template: &str) -> String {
        let parts = template.split('/').map(|part| {
            let kind = part.strip_prefix('{').and_then(|of| of.strip_suffix('}'));
            kind.map_or(part, |kind| self.of(kind)).to_owned()
        });
        parts.collect::<Vec<_>>().join("/")
    }

    /// What of ours a parameter of a query may name.
    fn named_by(&self, parameter: &str) -> Vec<String> {
        let of = |kinds: &[&str]| -> Vec<String> {
            kinds.iter().map(|kind| self.of(kind).to_owned()).collect()
        };
        match parameter {
            "batch" => [of(&["batch"]), vec![SECRET.to_owned()]].concat(),
            "document" => of(&["document"]),
            "subject" | "entity" | "around" => of(&["entity", "cluster"]),
            "object" => of(&["object"]),
            "name" => vec!["Ada Lovelace".to_owned()],
            "prefix" => vec!["ada".to_owned()],
            "q" => vec!["lovelace".to_owned()],
            "after" => of(&["batch", "execution", "entity"]),
            // These name nothing of anybody's.
            "limit" | "state" | "status" | "type" | "predicate" | "format" | "base_iri"
            | "depth" | "nodes" | "poll" | "wait" | "token" => Vec::new(),
            _ => panic!("`?{parameter}=` is new: say what of ours it may name"),
        }
    }

    /// Every query of a route that names something of ours by this parameter.
    fn queries(&self, route: &Route, parameter: &str) -> Vec<Vec<(String, String)>> {
        let named = self.named_by(parameter).into_iter();
        let whole = named.map(|named| {
            let mut query = vec![(parameter.to_owned(), named)];
            if route.template == "/api/subgraph" && parameter != "around" {
                query.push(("around".to_owned(), self.of("entity").to_owned()));
            }
            query
        });
        whole.collect()
    }

    /// Whether a text tells of anything of ours, apart from what was asked.
    fn are_in(&self, text: &str, query: &[(String, String)]) -> bool {
        let asked = query.iter().map(|(_, asked)| asked);
        let text = asked.fold(text.to_owned(), |text, asked| text.replace(asked, ""));
        let ids = self.0.values().any(|id| text.contains(id.as_str()));
        ids || text.contains("Lovelace") || text.contains(SECRET)
    }
}

/// Every route of the server that needs a key, as its own description has it, and one that is none.
async fn routes(server: &Server, things: &Things) -> Vec<Route> {
    let described = object(server.get("/openapi.json").await, 200).await;
    let mut routes = vec![Route {
        method: Method::GET,
        template: "/nothing".to_owned(),
        path: "/nothing".to_owned(),
        query: Vec::new(),
    }];
    for (template, methods) in described["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method = method.to_uppercase();
            assert!(["GET", "PUT", "POST", "DELETE", "PATCH"].contains(&&*method));
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let in_query = parameters.filter(|parameter| parameter["in"] == "query");
            routes.push(Route {
                method: method.parse().unwrap(),
                path: things.path(template),
                template: template.clone(),
                query: in_query
                    .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
                    .collect(),
            });
        }
    }
    routes.retain(|route| !OPEN.contains(&route.template.as_str()));
    assert!(routes.len() > 25, "{}", routes.len());
    routes
}

/// A finished batch full of what nobody else may read.
async fn our_things(server: &Server) -> Things {
    let text = format!("{DOCUMENT} She wrote a letter about {SECRET}.");
    let mut batch = documents(&[(SECRET, &text)]);
    batch["name"] = json!(SECRET);
    let opened = object(server.submit(&batch).await, 201).await;
    let id = opened["batch_id"].as_str().unwrap().to_owned();
    let worker = server.worker();
    let report = server.ended(&id).await;
    assert_eq!(report["state"], "Completed", "{report}");
    drop(worker);
    let executions = object(
        server
            .get(&format!("/api/batches/{id}/executions?document={SECRET}"))
            .await,
        200,
    )
    .await;
    let relations = object(server.get(&format!("/api/relations?batch={id}")).await, 200).await;
    let relation = &relations["relations"][0];
    let entity = relation["subject"]["entity_id"].as_str().unwrap();
    let shown = object(server.get(&format!("/api/entities/{entity}")).await, 200).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Things(BTreeMap::from([
        ("execution", text(&executions["executions"][0]["id"])),
        ("document", SECRET.to_owned()),
        ("entity", entity.to_owned()),
        ("object", text(&relation["object"]["entity_id"])),
        ("cluster", text(&shown["cluster_id"])),
        ("batch", id),
    ]))
}

impl Server {
    fn command(&self) -> std::process::Command {
        command(&self.database, self.redis.as_ref().unwrap())
    }

    fn new_key(&self, more: &[&str]) -> String {
        new_key(&self.database, self.redis.as_ref().unwrap(), more)
    }

    fn revoke(&self, key: &str, of: &str) {
        let prefix = key.rsplit_once('_').unwrap().0;
        say(self
            .command()
            .args(["keys", "revoke", prefix, "--organization", of]))
        .exits(0);
    }

    /// A request to a route, with a body that would do where one is needed.
    fn ask(&self, route: &Route) -> RequestBuilder {
        let request = self.bare(route.method.clone(), &route.path);
        if route.method == Method::GET {
            return request;
        }
        let body = if route.template.ends_with("/stream-tokens") {
            json!({ "path": "/api/batches/b/events" })
        } else if route.template.ends_with("/rerun") {
            json!({ "from": "entities" })
        } else if route.template.ends_with("/documents") || route.template.ends_with("/batches") {
            documents(&[("new", DOCUMENT)])
        } else {
            json!({})
        };
        request.json(&body)
    }
}

#[tokio::test]
async fn nobody_crosses_on_any_route() {
    let server = Server::start().await;
    let things = our_things(&server).await;
    let routes = routes(&server, &things).await;
    ours_are_there(&server, &things, &routes).await;
    say(server.command().args(["organization", "create", "others"])).exits(0);
    let of_others = ["--organization", "others"];
    let theirs = server.new_key(&[&of_others[..], &["--scope", "admin"]].concat());
    let revoked = server.new_key(&["--scope", "admin"]);
    server.revoke(&revoked, "default");
    let expired = server.new_key(&["--scope", "admin", "--expires", "1s"]);
    let reader = server.new_key(&["--scope", "read"]);
    eventually("a key expires", async || {
        let request = server
            .bare(Method::GET, "/api/batches")
            .bearer_auth(&expired);
        request.send().await.unwrap().status() == 401
    })
    .await;
    let token = server
        .bare(Method::POST, "/api/stream-tokens")
        .bearer_auth(&reader)
        .json(&json!({ "path": "/api/batches" }));
    let token = object(token.send().await.unwrap(), 201).await;
    let token = token["token"].as_str().unwrap();
    // As a key is made, and nobody's.
    let unknown = graphmill::keys::Key::generate().unwrap().reveal();
    let mistyped = mistyped(&server.key);
    let truncated = &server.key[..30];
    let prefix_of_ours = {
        // Our prefix, which is no secret, with the secret of another key and the checksum of neither.
        let (ours, _) = server.key.rsplit_once('_').unwrap();
        let (_, other) = unknown.rsplit_once('_').unwrap();
        format!("{ours}_{other}")
    };

    for route in &routes {
        let at = format!("{} {}", route.method, route.template);
        let refused = async |request: RequestBuilder, status: u16, why: &str| {
            let response = request.send().await.unwrap();
            let challenge = response.headers().get("www-authenticate").cloned();
            assert_eq!(response.status(), status, "{at}: {why}");
            assert_eq!(challenge.is_some(), status == 401, "{at}: {why}");
            problem(response, status).await["detail"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        refused(server.ask(route), 401, "no key").await;
        for (key, why) in [
            ("", "an empty key"),
            ("gm__", "no key at all"),
            (truncated, "half a key"),
            (&mistyped, "a mistyped key"),
            (&prefix_of_ours, "a key with another one's secret"),
        ] {
            refused(server.ask(route).bearer_auth(key), 401, why).await;
        }
        let basic = server.ask(route).basic_auth("graphmill", Some(&server.key));
        refused(basic, 401, "another scheme").await;
        let in_query = server.ask(route).query(&[("token", &server.key)]);
        refused(in_query, 401, "the key in the address").await;
        let no_stream = server.ask(route).query(&[("token", token)]);
        refused(no_stream, 401, "the token of a stream").await;
        let one = refused(server.ask(route).bearer_auth(&unknown), 401, "unknown").await;
        let other = refused(server.ask(route).bearer_auth(&revoked), 401, "revoked").await;
        assert_eq!(one, other, "nobody learns that there was a key");
        let ended = refused(server.ask(route).bearer_auth(&expired), 401, "expired").await;
        assert!(ended.contains("expired"), "{ended}");
        if route.writes() {
            let lacking = server.ask(route).bearer_auth(&reader);
            assert!(
                refused(lacking, 403, "a key that only reads")
                    .await
                    .contains("`write`")
            );
        }
        if route.names() {
            let crossing = server.ask(route).bearer_auth(&theirs);
            refused(crossing, 404, "another organization's key").await;
        } else if route.method == Method::GET && !route.path.ends_with("/nothing") {
            nothing_of_ours(&server, route, &things, &theirs).await;
        }
    }
    // Nothing of all this has changed anything, and the paths were those of things that are there.
    let ours = things.of("batch");
    let report = server.ended(ours).await;
    assert_eq!(report["documents"]["completed"], 1, "{report}");
    assert!(report.to_string().contains(SECRET));
    for key in [&reader, &server.key] {
        let path = format!("/api/batches/{ours}");
        let request = server.bare(Method::GET, &path).bearer_auth(key);
        object(request.send().await.unwrap(), 200).await;
    }
    a_token_is_of_an_organization(&server, &things, &theirs).await;
    a_name_is_of_an_organization(&server, ours, &theirs).await;
    ours_can_be_changed(&server, routes).await;
    server.stop();
}

/// What the paths and queries name is found by whom it belongs to: a 404 to others says something.
async fn ours_are_there(server: &Server, things: &Things, routes: &[Route]) {
    let reading = routes.iter().filter(|route| route.method == Method::GET);
    for route in reading.filter(|route| route.template != "/nothing") {
        if route.names() {
            let found = server.get(&route.path).await;
            assert_eq!(found.status(), 200, "{}", route.template);
            continue;
        }
        for parameter in route.query.iter().filter(|name| *name != "after") {
            for query in things.queries(route, parameter) {
                let asked = server.ask(route).query(&query).bearer_auth(&server.key);
                let text = asked.send().await.unwrap().text().await.unwrap();
                let found = things.are_in(&text, &query);
                assert!(found, "{} {query:?}: {text}", route.template);
            }
        }
    }
}

/// Whoever has them may change them by the same paths: none of those was nobody's. Removing comes last.
async fn ours_can_be_changed(server: &Server, mut routes: Vec<Route>) {
    routes.retain(|route| route.names() && route.method != Method::GET);
    routes.sort_by_key(|route| route.method == Method::DELETE);
    for route in routes {
        let asked = server.ask(&route).bearer_auth(&server.key);
        let status = asked.send().await.unwrap().status();
        let known = status.is_success() || status == StatusCode::CONFLICT;
        assert!(known, "{} {}: {status}", route.method, route.template);
    }
}

/// Others may ask for a token for our stream, and are told no more by it than by their key.
async fn a_token_is_of_an_organization(server: &Server, things: &Things, theirs: &str) {
    for path in [
        format!("/api/batches/{}/events", things.of("batch")),
        format!("/api/workflows/{}/progress", things.of("execution")),
    ] {
        let token = server.bare(Method::POST, "/api/stream-tokens");
        let token = token.bearer_auth(theirs).json(&json!({ "path": path }));
        let token = object(token.send().await.unwrap(), 201).await;
        let follow = server.bare(Method::GET, &path);
        let follow = follow.query(&[("token", token["token"].as_str().unwrap())]);
        problem(follow.send().await.unwrap(), 404).await;
    }
}

/// Asks a route that names nothing by another organization's key, and with our things in its query.
async fn nothing_of_ours(server: &Server, route: &Route, things: &Things, theirs: &str) {
    let mut queries = vec![Vec::new()];
    for parameter in &route.query {
        queries.extend(things.queries(route, parameter));
    }
    for query in queries {
        let asked = server.ask(route).query(&query).bearer_auth(theirs);
        let text = asked.send().await.unwrap().text().await.unwrap();
        let found = things.are_in(&text, &query);
        assert!(!found, "{} {query:?}: {text}", route.template);
    }
}

/// The key with another last character.
fn mistyped(key: &str) -> String {
    let (rest, last) = key.split_at(key.len() - 1);
    format!("{rest}{}", if last == "7" { "8" } else { "7" })
}

async fn a_name_is_of_an_organization(server: &Server, ours: &str, theirs: &str) {
    let of_others = ["--organization", "others"];
    for wanted in ["Zanzibar", ours] {
        let crossing = say(server
            .command()
            .args(["batch", "show", wanted])
            .args(of_others));
        crossing.exits(2);
    }
    let own = server
        .bare(Method::POST, "/api/batches")
        .bearer_auth(theirs);
    let mut same_name = documents(&[("Zanzibar", DOCUMENT)]);
    same_name["name"] = json!("Zanzibar");
    let opened = object(own.json(&same_name).send().await.unwrap(), 201).await;
    assert_ne!(opened["batch_id"], *ours);
    let listed = say(server
        .command()
        .args(["batch", "list", "--json"])
        .args(of_others));
    assert!(
        listed
            .exits(0)
            .stdout
            .contains(opened["batch_id"].as_str().unwrap())
    );
}

#[tokio::test]
async fn a_key_that_was_in_use_is_refused_within_seconds_of_its_revocation() {
    let server = Server::start().await;
    let key = server.new_key(&["--scope", "read"]);
    let status = async || {
        let request = server.bare(Method::GET, "/api/batches").bearer_auth(&key);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status().await, 200);
    let listed = || {
        let listed = say(server.command().args(["keys", "list", "--json"])).exits(0);
        assert!(!listed.stdout.contains(&key) && !listed.stderr.contains(&key));
        let listed = listed.json();
        let keys = listed["keys"].as_array().unwrap().clone();
        keys.into_iter()
            .find(|one| key.contains(one["prefix"].as_str().unwrap()))
            .unwrap()
    };
    // It is noted behind the request's back.
    eventually("its use is noted", async || {
        listed()["last_used_at"].is_string()
    })
    .await;
    assert_eq!(listed()["state"], "active");
    server.revoke(&key, "default");
    let begun = Instant::now();
    eventually("the revoked key is refused", async || status().await == 401).await;
    let took = begun.elapsed();
    let promised = graphmill::keys::FRESH + Duration::from_secs(2);
    assert!(took < promised, "{took:?}");
    assert_eq!(listed()["state"], "revoked");
    // Another organization can't revoke ours.
    say(server.command().args(["organization", "create", "others"])).exits(0);
    let prefix = server.key.rsplit_once('_').unwrap().0;
    let crossing = ["keys", "revoke", prefix, "--organization", "others"];
    say(server.command().args(crossing)).exits(2);
    object(server.get("/api/batches").await, 200).await;
    server.stop();
}

#[tokio::test]
async fn no_key_is_in_a_log() {
    let server = Server::with(&["--log", "trace"]).await;
    let mistyped = mistyped(&server.key);
    for key in [&server.key, &mistyped] {
        let request = server.bare(Method::GET, "/api/batches").bearer_auth(key);
        request.send().await.unwrap();
        let request = server
            .bare(Method::GET, "/api/batches")
            .query(&[("token", key)]);
        request.send().await.unwrap();
        let path = format!("/api/batches/{key}");
        server.get(&path).await;
    }
    let ask = json!({ "path": "/api/batches/b/events" });
    let token = server
        .request(Method::POST, "/api/stream-tokens")
        .json(&ask);
    let token = object(token.send().await.unwrap(), 201).await;
    let token = token["token"].as_str().unwrap().to_owned();
    for path in ["/api/batches/b/events", "/api/batches"] {
        let request = server.bare(Method::GET, path).query(&[("token", &token)]);
        request.send().await.unwrap();
    }
    let secret = server.key.rsplit_once('_').unwrap().1[..40].to_owned();
    let signature = token.rsplit_once('.').unwrap().1.to_owned();
    let (_, log) = server.process.stop();
    assert!(log.contains("TRACE"), "the log has everything");
    for hidden in [&secret, &signature] {
        let line = log.lines().find(|line| line.contains(hidden.as_str()));
        assert!(line.is_none(), "{line:?}");
    }
}

#[tokio::test]
async fn a_server_without_keys_is_for_loopback_alone() {
    let (database, redis) = (migrated().await, Redis::start());
    let serve = |more: &[&str]| say(command(&database, &redis).arg("serve").args(more));
    let refused = serve(&["--listen", "0.0.0.0:0"]).exits(2);
    assert!(
        refused.stderr.contains("graphmill keys create"),
        "{refused:?}"
    );
    let refused = serve(&["--listen", "0.0.0.0:0", "--no-keys"]).exits(2);
    assert!(refused.stderr.contains("--no-keys"), "{refused:?}");

    // With a key it listens there, and asks for it.
    let key = new_key(&database, &redis, &["--expires", "1h"]);
    let arguments = ["serve", "--listen", "0.0.0.0:0"];
    let process = Process::start(&arguments, &database, &redis);
    let port: u16 = loop {
        let line = process.log.recv_timeout(PATIENCE).unwrap();
        if let Some((_, rest)) = line.split_once("0.0.0.0:") {
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            break rest[..end].parse().unwrap();
        }
    };
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let list = || client.get(format!("http://127.0.0.1:{port}/api/batches"));
    problem(list().send().await.unwrap(), 401).await;
    object(list().bearer_auth(&key).send().await.unwrap(), 200).await;
    process.stop();

    // Once it is revoked, nobody could be told from anybody again.
    let prefix = key.rsplit_once('_').unwrap().0;
    say(command(&database, &redis).args(["keys", "revoke", prefix])).exits(0);
    serve(&["--listen", "0.0.0.0:0"]).exits(2);

    let (process, address) = serving(&database, &redis, &["--no-keys"]);
    object(
        client
            .get(format!("{address}/api/batches"))
            .send()
            .await
            .unwrap(),
        200,
    )
    .await;
    let token = client.post(format!("{address}/api/stream-tokens"));
    let token = token.json(&json!({ "path": "/api/batches/b/events" }));
    object(token.send().await.unwrap(), 201).await;
    process.stop();
}

#[tokio::test]
async fn the_first_key_of_a_private_server_is_shown_once_and_kept() {
    let data = folder("first-key");
    let serve = || {
        let mut child = bare()
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let port = loop {
            let line = lines.next().expect("a server").unwrap();
            said.push_str(&line);
            said.push('\n');
            if let Some((_, rest)) = line
                .split_once("127.0.0.1:")
                .filter(|_| line.contains("listening"))
            {
                let end = rest
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(rest.len());
                break rest[..end].parse::<u16>().unwrap();
            }
        };
        // Its log goes on, and must not stop it.
        std::thread::spawn(move || lines.map_while(Result::ok).count());
        (child, port, said)
    };
    let stop = |mut child: Child| {
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        wait_for("the process ends", || child.try_wait().unwrap());
    };
    let (child, port, said) = serve();
    let file = data.join("api-key");
    let key = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert_eq!(said.matches(&key).count(), 1, "{said}");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let list = client.get(format!("http://127.0.0.1:{port}/api/batches"));
    problem(list.try_clone().unwrap().send().await.unwrap(), 401).await;
    object(list.bearer_auth(&key).send().await.unwrap(), 200).await;
    stop(child);
    let (child, _, said) = serve();
    assert!(!said.contains(&key) && !said.contains("gm_"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), key);
    stop(child);
}

#[tokio::test]
async fn requests_are_counted_over_all_replicas_and_without_redis_each_has_its_share() {
    let mut server = Server::start().await;
    let redis = server.redis.as_ref().unwrap();
    let (second, address) = serving(&server.database, redis, &[]);
    say(server.command().args(["organization", "create", "others"])).exits(0);
    let limits = ["--requests-per-second", "1", "--burst", "10"];
    say(server
        .command()
        .args(["organization", "set", "others"])
        .args(limits))
    .exits(0);
    let key = server.new_key(&["--organization", "others"]);
    let begun = Instant::now();
    let ask = async |at: usize| {
        let path = if at.is_multiple_of(2) {
            &server.address
        } else {
            &address
        };
        let request = server
            .client
            .get(format!("{path}/api/batches"))
            .bearer_auth(&key);
        request.send().await.unwrap()
    };
    let mut allowed = 0;
    for at in 0..40 {
        let response = ask(at).await;
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("ratelimit-policy"), "\"organization\";q=10;w=10");
        assert!(header("ratelimit").starts_with("\"organization\";r="));
        if response.status() == 200 {
            allowed += 1;
        } else {
            assert!(header("retry-after").parse::<u64>().unwrap() >= 1);
            assert_eq!(problem(response, 429).await["limit"], 1);
        }
    }
    let passed = begun.elapsed().as_secs() + 1;
    assert!(
        (10..=10 + passed).contains(&allowed),
        "{allowed} in {passed} s"
    );
    // Who has no limit is not told of any, and is not held up by those who have one.
    let response = server.get("/api/batches").await;
    assert!(response.headers().get("ratelimit").is_none());
    object(response, 200).await;

    // Without Redis nobody has a full bucket again, and nobody is shut out.
    server.redis = None;
    let begun = Instant::now();
    let ask = async |at: usize| {
        let path = if at.is_multiple_of(2) {
            &server.address
        } else {
            &address
        };
        let request = server
            .client
            .get(format!("{path}/api/batches"))
            .bearer_auth(&key);
        request.send().await.unwrap()
    };
    let mut allowed = 0;
    for at in 0..40 {
        let status = ask(at).await.status().as_u16();
        assert!([200, 429].contains(&status), "{status}");
        allowed += u64::from(status == 200);
    }
    let passed = begun.elapsed().as_secs() + 2;
    assert!(allowed <= passed + 2, "{allowed} in {passed} s");
    eventually("a request comes through without Redis", async || {
        ask(0).await.status() == 200
    })
    .await;
    drop(second);
    server.stop();
}

#[tokio::test]
async fn what_an_organization_may_have_is_capped() {
    let server = Server::start().await;
    let set = |limits: &[&str]| {
        say(server
            .command()
            .args(["organization", "set", "default"])
            .args(limits))
        .exits(0);
    };
    let stored = async || {
        let pool = sqlx::PgPool::connect(server.database.url()).await.unwrap();
        let sql = "select documents from organization_limit";
        let texts = crate::support::texts(&pool, sql).await;
        texts[0].parse::<i64>().unwrap()
    };
    let first = documents(&[("a", "one"), ("b", "two"), ("c", "three")]);
    let first = object(server.submit(&first).await, 201).await;
    // What is there counts, too.
    set(&["--max-documents", "5", "--max-open-batches", "2"]);
    assert_eq!(stored().await, 3);
    let mut open = documents(&[("d", "four"), ("same", "four")]);
    open["open"] = json!(true);
    open["name"] = json!("open");
    object(server.submit(&open).await, 201).await;
    assert_eq!(stored().await, 4, "a duplicate is not stored");
    let third = server.submit(&documents(&[("e", "five")])).await;
    let third = problem(third, 403).await;
    assert_eq!(
        (&third["quota"], &third["limit"]),
        (&json!("open batches"), &json!(2))
    );
    let add = async |documents: Value| {
        let request = server.request(Method::POST, "/api/batches/open/documents");
        request.json(&documents).send().await.unwrap()
    };
    let many = problem(add(documents(&[("e", "five"), ("f", "six")])).await, 403).await;
    assert_eq!(
        (&many["quota"], &many["limit"]),
        (&json!("documents"), &json!(5))
    );
    assert_eq!(stored().await, 4, "nothing of it is kept");
    object(add(documents(&[("e", "five")])).await, 200).await;
    // A new version takes the place of the old one.
    object(add(documents(&[("e", "five again")])).await, 200).await;
    assert_eq!(stored().await, 5);
    let path = "/api/batches/open/documents/e";
    object(
        server.request(Method::DELETE, path).send().await.unwrap(),
        200,
    )
    .await;
    assert_eq!(stored().await, 4);
    object(add(documents(&[("e", "five")])).await, 200).await;

    // The end of a batch makes room for another, but not for documents; others have limits of their own.
    let cancel = format!(
        "/api/batches/{}/cancel",
        first["batch_id"].as_str().unwrap()
    );
    object(
        server.request(Method::POST, &cancel).send().await.unwrap(),
        202,
    )
    .await;
    let worker = server.worker();
    server.ended(first["batch_id"].as_str().unwrap()).await;
    drop(worker);
    let full = problem(server.submit(&documents(&[("f", "six")])).await, 403).await;
    assert_eq!(full["quota"], "documents");
    let said = say(server
        .command()
        .args(["run", "--json", "--name", "by hand"])
        .arg(crate::support::examples("documents")));
    assert!(said.exits(2).stderr.contains("5 documents"));
    say(server.command().args(["organization", "create", "others"])).exits(0);
    let key = server.new_key(&["--organization", "others"]);
    let others = server.bare(Method::POST, "/api/batches").bearer_auth(&key);
    let others = others.json(&documents(&[("f", "six")]));
    object(others.send().await.unwrap(), 201).await;

    set(&["--max-documents", "none"]);
    object(server.submit(&documents(&[("f", "six")])).await, 201).await;
    let listed = say(server.command().args(["organization", "list", "--json"]))
        .exits(0)
        .json();
    let ours = &listed["organizations"][0];
    assert_eq!(
        (&ours["max_documents"], &ours["max_open_batches"]),
        (&Value::Null, &json!(2))
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_for_one_stream_of_one_organization_as_long_as_its_key_holds() {
    use graphmill::keys::{Keyring, NewKey, Refusal, issue};

    let ground = crate::support::Ground::new().await;
    let organization = graphmill_jobs::OrganizationId::DEFAULT;
    let new = NewKey {
        name: "reader",
        scope: graphmill::store::Scope::Read,
        expires: None,
    };
    let mut transaction = ground.store.app(organization).await.unwrap();
    let key = issue(&mut transaction, organization, &new)
        .await
        .unwrap()
        .key;
    transaction.commit().await.unwrap();
    let path = "/api/batches/b/events";
    let (one, other) = (
        Keyring::new(ground.store.clone()),
        Keyring::new(ground.another_store().await),
    );
    let holder = one.admit(&key.reveal()).await.unwrap();
    let (token, ends_ms) = one.stream_token(&holder, path).await.unwrap();
    let now_ms = ground
        .number("select (extract(epoch from now()) * 1000)::bigint")
        .await;
    let left = ends_ms.cast_signed() - now_ms;
    assert!((50_000..=60_000).contains(&left), "{left}");
    // Another replica has never seen it.
    let token = token.reveal();
    let admitted = other.admit_to_stream(&token, path).await.unwrap();
    assert_eq!(admitted.organization, organization);
    assert!(other.admits(&admitted).await);
    for (shown, at) in [
        (token.as_str(), "/api/batches/c/events"),
        (&token[..token.len() - 2], path),
        (&token.replacen('.', "0.", 1), path),
        (&key.reveal(), path),
        ("", path),
    ] {
        let refused = other.admit_to_stream(shown, at).await;
        assert!(matches!(refused, Err(Refusal::Token)), "{shown} {at}");
    }
    // A later end is not what was signed.
    let mut parts: Vec<&str> = token.split('.').collect();
    let later = (ends_ms + 1).to_string();
    parts[1] = &later;
    let refused = other.admit_to_stream(&parts.join("."), path).await;
    assert!(matches!(refused, Err(Refusal::Token)));

    ground
        .execute("update api_key set revoked_at = now()")
        .await
        .unwrap();
    let fresh = Keyring::new(ground.store.clone());
    let refused = fresh.admit_to_stream(&token, path).await;
    assert!(matches!(refused, Err(Refusal::Token)));
    assert!(!fresh.admits(&admitted).await, "a stream that is open ends");
    let refused = fresh.admit(&key.reveal()).await;
    assert!(matches!(refused, Err(Refusal::Unknown)));
}

#[tokio::test]
async fn a_stream_is_connected_to_with_a_token_and_ends_with_its_key() {
    let server = Server::start().await;
    let mut batch = documents(&[("a", DOCUMENT)]);
    batch["name"] = json!("followed");
    object(server.submit(&batch).await, 201).await;
    let reader = server.new_key(&["--scope", "read"]);
    let path = "/api/batches/followed/events";
    let token = async |of: &str| {
        let request = server.bare(Method::POST, "/api/stream-tokens");
        let request = request.bearer_auth(&reader).json(&json!({ "path": of }));
        let token = object(request.send().await.unwrap(), 201).await;
        token["token"].as_str().unwrap().to_owned()
    };
    let follow = async |path: &str, token: &str| {
        let request = server.bare(Method::GET, path).query(&[("token", token)]);
        request.send().await.unwrap()
    };
    let good = token(path).await;
    let of_another = token("/api/batches/other/events").await;
    problem(follow(path, &of_another).await, 401).await;
    problem(follow("/api/batches/other/events", &good).await, 401).await;
    let escaped = follow("/api/batches/%66ollowed/events", &good).await;
    problem(escaped, 401).await;
    for wrong in ["batches", "/api/batches?limit=1", "/healthz", "/api/a b"] {
        let request = server.request(Method::POST, "/api/stream-tokens");
        let request = request.json(&json!({ "path": wrong }));
        problem(request.send().await.unwrap(), 422).await;
    }

    let mut stream = follow(path, &good).await;
    assert_eq!(stream.status(), 200);
    let first = stream.chunk().await.unwrap().expect("the stream begins");
    assert!(!first.is_empty());
    server.revoke(&reader, "default");
    // Nobody works the batch: nothing but its key ends this stream.
    let ended = async { while let Ok(Some(_)) = stream.chunk().await {} };
    let longest = 2 * graphmill::keys::FRESH + Duration::from_secs(20);
    tokio::time::timeout(longest, ended)
        .await
        .expect("the stream ends with its key");
    problem(follow(path, &good).await, 401).await;
    server.stop();
}
