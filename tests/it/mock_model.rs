//! The scripted model server, over real HTTP: each behaviour once, its limits, and a bill that a kill does not hurt.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use graphmill::mock_model::{Entry, Event, Options, Script};
use reqwest::{Client, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

use crate::support::{ModelProcess, ModelServer, bill, eventually, folder};

const TEXT: &str = "Angela Merkel leads the Christian Democratic Party in Berlin. The Bank's Anne-Marie O'Neill met \
                    Angela Merkel.";

/// A request for the mentions of [`TEXT`].
fn mentions() -> Value {
    request("mentions", &format!("<text>\n{TEXT}\n</text>"))
}

fn request(task: &str, user: &str) -> Value {
    json!({"model": "m", "messages": [
        {"role": "system", "content": format!("graphmill task: {task}@1\nSay what you find.")},
        {"role": "user", "content": user},
    ]})
}

/// What a client got.
#[derive(Debug)]
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn choice(&self) -> Value {
        self.json()["choices"][0].clone()
    }

    /// The content of the message.
    fn content(&self) -> String {
        let content = &self.choice()["message"]["content"];
        content.as_str().unwrap_or_default().to_owned()
    }

    /// What the content says, as JSON.
    fn answer(&self) -> Value {
        serde_json::from_str(&self.content()).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

async fn ask(server: &ModelServer, body: &Value) -> reqwest::Result<Got> {
    ask_at(&server.base_url(), "call_1", body).await
}

async fn ask_at(url: &str, call: &str, body: &Value) -> reqwest::Result<Got> {
    let endpoint = if body.get("input").is_some() {
        "embeddings"
    } else {
        "chat/completions"
    };
    let sent = Client::new()
        .post(format!("{url}/{endpoint}"))
        .header("x-graphmill-call", call)
        .json(body)
        .send()
        .await?;
    Ok(Got {
        status: sent.status(),
        headers: sent.headers().clone(),
        body: sent.text().await?,
    })
}

/// Each quote of an answer.
fn quotes(answer: &Value) -> Vec<&str> {
    let mentions = answer["mentions"].as_array().unwrap();
    mentions
        .iter()
        .map(|item| item["quote"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn prompts_are_answered_from_what_stands_in_them() {
    let server = ModelServer::start("cached_tokens = true").await;
    let got = ask(&server, &mentions()).await.unwrap();
    assert_eq!(got.status, 200);
    assert_eq!(got.choice()["finish_reason"], "stop");
    let wanted = [
        "Angela Merkel",
        "Christian Democratic Party",
        "Berlin",
        "Bank",
        "Anne-Marie O'Neill",
        "Angela Merkel",
    ];
    assert_eq!(quotes(&got.answer()), wanted);
    assert_eq!(got.answer()["mentions"][5]["occurrence"], 2);
    assert_eq!(
        got.json()["usage"]["prompt_tokens_details"]["cached_tokens"],
        0
    );
    let again = ask(&server, &mentions()).await.unwrap();
    assert_eq!(again.answer(), got.answer());
    assert_ne!(
        again.json()["usage"]["prompt_tokens_details"]["cached_tokens"],
        0
    );

    let classes = "<classes>\n- person: a human\n- location: a place\n</classes>\n\
                   <mentions>\n1. \"Angela Merkel\" [PER] in: …\n2. \"Berlin\" [LOC] in: …\n</mentions>";
    let got = ask(&server, &request("classes", classes))
        .await
        .unwrap()
        .answer();
    let wanted = json!({"classes": [{"mention": 1, "class": "person"}, {"mention": 2, "class": "location"}]});
    assert_eq!(got, wanted);

    let relations = format!(
        "<text>\n{TEXT}\n</text>\n<entities>\n1. Angela Merkel (person)\n2. Christian Democratic Party (organization)\n\
         </entities>\n<relations>\n- leads(person -> organization): heads it\n</relations>"
    );
    let got = ask(&server, &request("relations", &relations))
        .await
        .unwrap()
        .answer();
    let quote = "Angela Merkel leads the Christian Democratic Party";
    let wanted =
        json!({"relations": [{"subject": 1, "predicate": "leads", "object": 2, "quote": quote}]});
    assert_eq!(got, wanted);

    // A repair asks again in a message of its own.
    let mut repair = mentions();
    let messages = repair["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": "{"}));
    messages.push(json!({"role": "user", "content": "That was not JSON: answer again."}));
    assert_eq!(
        quotes(&ask(&server, &repair).await.unwrap().answer()).len(),
        6
    );

    let embedded = ask(
        &server,
        &json!({"model": "m", "input": ["a b", "c"], "dimensions": 8}),
    )
    .await
    .unwrap();
    assert_eq!(
        embedded.json()["data"][1]["embedding"]
            .as_array()
            .unwrap()
            .len(),
        8
    );
    let models = reqwest::get(format!("{}/models", server.base_url()))
        .await
        .unwrap();
    assert_eq!(models.status(), 200);
}

#[tokio::test]
async fn a_schema_binds_only_in_a_form_that_is_supported() {
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["answer"],
        "properties": {"answer": {"type": "string", "enum": ["xylophone"]}}});
    let json_schema = json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}});
    let flat = json!({"type": "json_schema", "schema": schema});
    let object = json!({"type": "json_object", "schema": schema});
    let bare = json!({"type": "json_object"});
    let all = "";
    let only = "supports = [\"json_object\", \"text\"]";
    let python = "supports = [\"json_object\", \"text\"]\nunsupported = \"llama_cpp_python\"";
    let ignores = "supports = [\"text\"]\nunsupported = \"ignore\"";
    let plain = "supports = [\"json_object_plain\", \"text\"]";
    for (script, format, wanted) in [
        (all, &json_schema, Ok("xylophone")),
        (all, &flat, Ok("yes")),
        (all, &object, Ok("xylophone")),
        (all, &bare, Ok("yes")),
        (all, &Value::Null, Ok("yes")),
        (only, &json_schema, Err(400)),
        (only, &object, Ok("xylophone")),
        (python, &json_schema, Err(500)),
        (ignores, &json_schema, Ok("yes")),
        (plain, &object, Ok("yes")),
    ] {
        let server = ModelServer::start(script).await;
        let mut body = request("probe", "Answer.");
        body["response_format"] = format.clone();
        let got = ask(&server, &body).await.unwrap();
        match wanted {
            Ok(word) => assert_eq!(got.answer()["answer"], word, "{script} {format}"),
            Err(status) => assert_eq!(got.status, status, "{script} {format}"),
        }
        assert_eq!(server.stats().billed, u64::from(wanted.is_ok()));
    }
    let server = ModelServer::start("").await;
    let mut body = request("probe", "Answer.");
    body["response_format"] = json_schema;
    body["response_format"]["json_schema"]["schema"]["required"] = json!([]);
    let got = ask(&server, &body).await.unwrap();
    assert_eq!(got.json()["error"]["code"], "invalid_json_schema");
}

#[tokio::test]
async fn every_failure_has_its_form() {
    let server = ModelServer::start("").await;
    for status in [
        400, 401, 402, 403, 404, 408, 409, 413, 422, 425, 429, 500, 502, 503, 504, 529,
    ] {
        server.script(&format!(
            "rule = [{{ then = {{ fail = {{ status = {status} }} }} }}]"
        ));
        let got = ask(&server, &mentions()).await.unwrap();
        assert_eq!(got.status.as_u16(), status);
        assert!(got.json()["error"]["message"].is_string(), "{got:?}");
    }
    for (form, header, wanted) in [
        ("seconds", "retry-after", "2"),
        ("milliseconds", "retry-after-ms", "1500"),
        ("reset", "x-ratelimit-reset-requests", "1.5s"),
    ] {
        server.script(&format!(
            "rule = [{{ then = {{ fail = {{ status = 429, retry_after = \"1500ms\", retry_form = \"{form}\" }} }} }}]"
        ));
        let got = ask(&server, &mentions()).await.unwrap();
        assert_eq!(got.header(header), wanted);
        let told = [
            "retry-after",
            "retry-after-ms",
            "x-ratelimit-reset-requests",
        ];
        assert_eq!(
            told.iter()
                .filter(|name| !got.header(name).is_empty())
                .count(),
            1
        );
    }
    server.script("rule = [{ then = { fail = { status = 429, retry_after = \"1h\", retry_form = \"date\" } } }]");
    let got = ask(&server, &mentions()).await.unwrap();
    let date = |name| chrono::DateTime::parse_from_rfc2822(got.header(name)).unwrap();
    let wait = (date("retry-after") - date("date")).num_seconds();
    assert!((3600..3603).contains(&wait), "{wait}");

    for (form, begins) in [
        ("text", "no"),
        ("html", "<html>"),
        ("anthropic", "{"),
        ("empty", ""),
    ] {
        server.script(&format!(
            "rule = [{{ then = {{ fail = {{ status = 503, message = \"no\", body = \"{form}\" }} }} }}]"
        ));
        let got = ask(&server, &mentions()).await.unwrap();
        assert!(got.body.starts_with(begins), "{form}: {got:?}");
        assert_eq!(got.body.is_empty(), form == "empty");
    }
    for (then, status, word) in [
        ("insufficient_quota", 429, "\"code\":\"insufficient_quota\""),
        ("credit_balance_too_low", 400, "credit balance is too low"),
        (
            "context_length_exceeded",
            400,
            "\"code\":\"context_length_exceeded\"",
        ),
    ] {
        server.script(&format!("rule = [{{ then = \"{then}\" }}]"));
        let got = ask(&server, &mentions()).await.unwrap();
        assert_eq!(got.status, status);
        assert!(got.body.contains(word), "{got:?}");
    }
    assert_eq!(server.stats().billed, 0);
    server.script("rule = [{ then = { fail = { status = 500 } }, billed = true }]");
    ask(&server, &mentions()).await.unwrap();
    assert_eq!(server.stats().billed, 1);
}

/// What is looked at in an answer.
type Look = fn(&Got) -> bool;

#[tokio::test]
async fn every_bad_answer_is_bad_in_its_way() {
    let looks: [(&str, Look); 20] = [
        ("\"answer\"", |got| quotes(&got.answer()).len() == 6),
        ("\"truncate\"", |got| {
            let broken = serde_json::from_str::<Value>(&got.content()).is_err();
            broken
                && got.content().starts_with("{\"mentions\":[")
                && got.choice()["finish_reason"] == "length"
        }),
        ("\"refuse\"", |got| {
            let message = &got.choice()["message"];
            message["refusal"].is_string() && message["content"].is_null()
        }),
        ("\"content_filter\"", |got| {
            got.choice()["finish_reason"] == "content_filter"
        }),
        ("\"prose\"", |got| {
            !got.content().starts_with('{')
                && got.content().contains("{\"mentions\":[")
                && !got.content().ends_with('}')
        }),
        ("\"fences\"", |got| {
            got.content().starts_with("```json\n{") && got.content().ends_with("}\n```")
        }),
        ("\"think\"", |got| {
            got.content().starts_with("<think>") && got.content().ends_with("]}")
        }),
        ("\"other_shape\"", |got| {
            got.answer()[0]["result"].is_object()
        }),
        ("\"broken_json\"", |got| {
            !got.content().is_empty() && serde_json::from_str::<Value>(&got.content()).is_err()
        }),
        ("\"wrong_labels\"", |got| {
            got.answer()["mentions"][0]["label"] == "banana"
        }),
        ("\"wrong_numbers\"", |got| {
            got.answer()["mentions"][0]["occurrence"] == 1000
        }),
        ("\"invented_quotes\"", |got| {
            quotes(&got.answer())
                .iter()
                .all(|quote| !TEXT.contains(quote))
        }),
        ("\"quote_whitespace\"", |got| {
            quotes(&got.answer())[0] == "Angela\n  Merkel"
        }),
        ("\"quote_case\"", |got| {
            quotes(&got.answer())[0] == "ANGELA MERKEL"
        }),
        ("\"quote_typography\"", |got| {
            quotes(&got.answer())[4] == "Anne\u{2011}Marie\u{a0}O’Neill"
        }),
        ("\"empty_content\"", |got| {
            got.choice()["message"]["content"] == ""
        }),
        ("\"null_content\"", |got| {
            got.choice()["message"]["content"].is_null()
        }),
        ("\"no_choices\"", |got| got.json()["choices"] == json!([])),
        ("\"no_usage\"", |got| {
            got.json().get("usage").is_none() && quotes(&got.answer()).len() == 6
        }),
        ("{ huge = 3000000 }", |got| {
            got.body.len() >= 3_000_000 && quotes(&got.answer()).len() == 6
        }),
    ];
    let server = ModelServer::start("").await;
    for (number, (then, look)) in (1..).zip(looks) {
        server.script(&format!("rule = [{{ name = \"it\", then = {then} }}]"));
        let got = ask(&server, &mentions()).await.unwrap();
        assert!(got.status == 200 && look(&got), "{then}: {got:?}");
        let last = server.bill().pop().unwrap();
        assert_eq!(
            (last.n, last.billed, last.rule.as_deref()),
            (number, true, Some("it")),
            "{then}"
        );
        assert!(
            last.completion_tokens > 0 || then == "\"empty_content\"",
            "{then}"
        );
    }
    // An answer that is longer than its client allows is cut by the server, as everywhere.
    server.script("");
    let mut capped = mentions();
    capped["max_completion_tokens"] = json!(5);
    let got = ask(&server, &capped).await.unwrap();
    assert_eq!(got.choice()["finish_reason"], "length");
    assert_eq!(got.content().len(), 20);
}

#[tokio::test]
async fn connections_end_where_the_script_says() {
    let server = ModelServer::start("").await;
    for (cut, has_head, billed) in [
        ("before_headers", false, true),
        ("before_headers", false, false),
        ("after_headers", true, true),
        ("mid_body", true, true),
    ] {
        server.script(&format!(
            "rule = [{{ then = {{ cut = \"{cut}\" }}, billed = {billed} }}]"
        ));
        let sent = Client::new()
            .post(format!("{}/chat/completions", server.base_url()))
            .json(&mentions())
            .send()
            .await;
        assert_eq!(sent.is_ok(), has_head, "{cut}");
        if let Ok(mut head) = sent {
            assert_eq!(head.status(), 200);
            let mut got = 0;
            let end = loop {
                match head.chunk().await {
                    Ok(Some(chunk)) => got += chunk.len(),
                    end => break end,
                }
            };
            assert!(end.is_err(), "{cut}");
            assert_eq!(got > 0, cut == "mid_body", "{cut}");
        }
        let last = server.bill().pop().unwrap();
        assert_eq!(last.status, has_head.then_some(200));
        assert_eq!(last.billed, billed);
    }
    // Byte by byte, but whole.
    server.script("rule = [{ then = { dribble = \"10us\" } }]");
    let got = ask(&server, &mentions()).await.unwrap();
    assert_eq!(quotes(&got.answer()).len(), 6);
    eventually("nothing is in flight", async || {
        server.stats().in_flight == 0
    })
    .await;
}

#[tokio::test]
async fn rules_are_for_the_requests_they_name() {
    let script = r#"
        seed = 4
        [[rule]]
        when = { requests = "2..3" }
        then = { fail = { status = 500 } }
        [[rule]]
        when = { attempts = 1, contains = "Paris" }
        then = { fail = { status = 503 } }
        [[rule]]
        when = { task = "classes" }
        then = { fail = { status = 422 } }
        [[rule]]
        when = { after = "1h" }
        then = "hang"
        [[rule]]
        when = { requests = "8..", probability = 0.5, times = 20 }
        then = { fail = { status = 529 } }
    "#;
    let mut all = Vec::new();
    for _ in 0..2 {
        let server = ModelServer::start(script).await;
        let paris = request("mentions", "<text>\nParis\n</text>");
        let mut bodies = vec![paris; 5];
        bodies.extend([request("classes", ""), mentions()]);
        let mut said = Vec::new();
        for body in bodies {
            said.push(ask(&server, &body).await.unwrap().status.as_u16());
        }
        // The first request is Paris' first; the next ones are taken by their numbers.
        assert_eq!(said, [503, 500, 500, 200, 200, 422, 200]);
        for _ in 0..60 {
            said.push(ask(&server, &mentions()).await.unwrap().status.as_u16());
        }
        assert_eq!(said.iter().filter(|status| **status == 529).count(), 20);
        all.push(said);
    }
    assert_eq!(all[0], all[1], "the same seed, the same fate");
}

#[tokio::test]
async fn limits_hold() {
    let server = ModelServer::start("limits = { rpm = 3 }").await;
    let mut said = Vec::new();
    for _ in 0..5 {
        said.push(ask(&server, &mentions()).await.unwrap());
    }
    let statuses: Vec<u16> = said.iter().map(|got| got.status.as_u16()).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let wait: u64 = said[4].header("retry-after-ms").parse().unwrap();
    assert!((40_000..=60_000).contains(&wait), "{wait}");
    let stats = server.stats();
    assert_eq!((stats.max_per_minute, stats.billed), (5, 3));

    server.script("limits = { tpm = 80 }");
    let one = ask(&server, &mentions()).await.unwrap().status;
    let two = ask(&server, &mentions()).await.unwrap();
    assert_eq!((one.as_u16(), two.status.as_u16()), (200, 429));
    assert!(two.body.contains("tokens"));
    // The most that may be answered is reserved, and given back when less is.
    server.script("limits = { tpm = 2000 }");
    let mut capped = mentions();
    capped["max_tokens"] = json!(1000);
    for _ in 0..3 {
        assert_eq!(ask(&server, &capped).await.unwrap().status, 200);
    }
    capped["max_tokens"] = json!(2000);
    assert_eq!(ask(&server, &capped).await.unwrap().status, 429);

    server.script("context = 40");
    let long = ask(&server, &mentions()).await.unwrap();
    assert_eq!(long.json()["error"]["code"], "context_length_exceeded");
    server.script("context = 40\ncontext_overflow = \"silent\"");
    let cut = ask(&server, &mentions()).await.unwrap();
    assert_eq!(cut.json()["usage"]["prompt_tokens"], 40);

    let keyed = ModelServer::with(Options {
        api_key: Some("secret".to_owned()),
        ..Options::default()
    });
    let keyed = keyed.await;
    assert_eq!(ask(&keyed, &mentions()).await.unwrap().status, 401);
    let sent = Client::new().post(format!("{}/chat/completions", keyed.base_url()));
    let sent = sent
        .bearer_auth("secret")
        .json(&mentions())
        .send()
        .await
        .unwrap();
    assert_eq!(sent.status(), 200);
    let authorized: Vec<bool> = keyed
        .bill()
        .iter()
        .map(|entry| entry.authorization)
        .collect();
    assert_eq!(authorized, [false, false, true, true]);
}

#[tokio::test]
async fn who_is_in_flight_is_counted() {
    let script = "limits = { concurrency = 5 }\nrule = [{ then = \"hang\" }]";
    let server = ModelServer::start(script).await;
    let url = server.base_url();
    let mut callers = tokio::task::JoinSet::new();
    for call in 0..5 {
        let url = url.clone();
        callers.spawn(async move { ask_at(&url, &format!("call_{call}"), &mentions()).await });
    }
    eventually("five hang", async || server.stats().in_flight == 5).await;
    let sixth = ask_at(&url, "call_5", &mentions()).await.unwrap();
    assert_eq!(sixth.status, 429);
    assert!(sixth.body.contains("concurrent"), "{sixth:?}");
    callers.shutdown().await;
    eventually("all have left", async || server.stats().in_flight == 0).await;
    let stats = server.stats();
    assert_eq!((stats.max_in_flight, stats.billed), (6, 0));
    assert!(stats.repeated_calls.is_empty());
    assert_eq!(
        stats.repeated_requests.into_values().collect::<Vec<_>>(),
        [6]
    );

    // One after the other on one connection is never two at the same time.
    server.script("");
    let client = Client::new();
    let before = server.bill().len();
    for _ in 0..200 {
        let sent = client
            .post(format!("{url}/chat/completions"))
            .json(&mentions());
        sent.send().await.unwrap().bytes().await.unwrap();
    }
    let seen: BTreeSet<u64> = server.bill()[before..]
        .iter()
        .map(|entry| entry.in_flight)
        .collect();
    assert_eq!(seen, BTreeSet::from([1]));
}

#[tokio::test]
async fn a_client_that_leaves_is_billed_all_the_same() {
    let server = ModelServer::start("latency = \"300ms\"").await;
    let url = server.base_url();
    let begin = Instant::now();
    let caller = tokio::spawn(async move { ask_at(&url, "left", &mentions()).await });
    eventually("it is there", async || !server.bill().is_empty()).await;
    caller.abort();
    eventually("it is answered", async || server.bill().len() == 2).await;
    let last = server.bill().pop().unwrap();
    assert!(
        last.client_left && last.billed && last.call.as_deref() == Some("left"),
        "{last:?}"
    );
    assert!(begin.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_killed_server_has_its_bill_and_goes_on_with_it() {
    let path = folder("mock-bill").join("bill.jsonl");
    let script = r#"{"rule": [{"when": {"requests": "2.."}, "latency": "1h"}]}"#;
    let server = ModelProcess::start(&path, script);
    let url = server.base_url().to_owned();
    assert_eq!(ask_at(&url, "a", &mentions()).await.unwrap().status, 200);
    // What a client has is on the bill, without waiting.
    assert_eq!(
        events(&server.bill()),
        [(1, Event::Received), (1, Event::Answered)]
    );
    let waits = tokio::spawn(async move { ask_at(&url, "b", &mentions()).await });
    eventually("it is on the bill", async || server.bill().len() == 3).await;
    server.kill();
    waits.await.unwrap().unwrap_err();
    let left = bill(&path);
    assert_eq!(left[2].call.as_deref(), Some("b"));
    assert_eq!(events(&left)[2..], [(2, Event::Received)]);

    // A line that was torn.
    fs::write(
        &path,
        fs::read_to_string(&path).unwrap() + "{\"event\":\"rec",
    )
    .unwrap();
    let server = ModelProcess::start(&path, "");
    assert_eq!(
        ask_at(server.base_url(), "c", &mentions())
            .await
            .unwrap()
            .status,
        200
    );
    let root = server.base_url().trim_end_matches("/v1").to_owned();
    let told = reqwest::get(format!("{root}/bill"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let told: Vec<Entry> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let numbers = [1, 1, 2, 3, 3];
    assert_eq!(
        told.iter().map(|entry| entry.n).collect::<Vec<_>>(),
        numbers
    );
    let sums = reqwest::get(format!("{root}/stats")).await.unwrap();
    let sums: Value = sums.json().await.unwrap();
    assert_eq!((&sums["requests"], &sums["billed"]), (&json!(3), &json!(2)));

    // The script is replaced while it runs; a wrong one is refused and changes nothing.
    let post = async |text: &'static str| {
        let sent = Client::new()
            .post(format!("{root}/script"))
            .body(text)
            .send()
            .await
            .unwrap();
        (sent.status().as_u16(), sent.text().await.unwrap())
    };
    assert_eq!(
        post("rule = [{ then = { fail = { status = 503 } } }]")
            .await
            .0,
        204
    );
    let (status, why) = post("rule = [{ then = \"explode\" }]").await;
    assert!(status == 400 && why.contains("explode"), "{why}");
    assert_eq!(
        ask_at(server.base_url(), "d", &mentions())
            .await
            .unwrap()
            .status,
        503
    );
    server.close();
}

fn events(entries: &[Entry]) -> Vec<(u64, Event)> {
    entries.iter().map(|entry| (entry.n, entry.event)).collect()
}

#[test]
fn the_example_of_the_docs_is_a_script() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/MOCK_MODEL.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, block) = text.split_once("```toml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let script = Script::read(block).unwrap();
    assert!(script.rules.len() > 3);
}
