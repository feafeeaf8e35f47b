//! Nonsense, over HTTP: whatever bodies, headers, paths and queries are sent, the server answers, and it is never its
//! own fault. The nonsense is the same at every run.

use std::io::{Read, Write as _};
use std::net::TcpStream;

use super::*;

/// A small generator of numbers (`SplitMix64`): the same seed gives the same nonsense.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }

    fn one<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.roll(of.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.roll(most))
            .map(|_| u8::try_from(self.roll(256)).unwrap())
            .collect()
    }

    /// Something like JSON, spoilt somewhere.
    fn json(&mut self) -> Vec<u8> {
        let whole = self.one(&[
            r#"{"documents":[{"id":"a","text":"Ada Lovelace."}],"name":null}"#,
            r#"{"documents":[{"id":1,"text":["a"],"metadata":{"a":{"b":[[[[1e999]]]]}}}]}"#,
            r#"{"documents":[],"open":true,"concurrency":99999999999999999999}"#,
            r#"{"max_cost":-0.0,"max_tokens":18446744073709551615}"#,
            r#"{"documents":[{"id":"\ud800","text":"\u0000"}]}"#,
            "{\"id\":\"a\",\"text\":\"b\"}\n{\"id\":\"a\",\"text\":\"b\"}\nnull\n[[[[\n\"\u{feff}",
            "--b\r\ncontent-disposition: form-data; name=\"a\"; filename=\"a\"\r\n\r\ntext\r\n--b--\r\n",
            "[[[[[[[[[[[[[[[[[[[[",
            "",
        ]);
        let mut bytes = whole.as_bytes().to_vec();
        for _ in 0..self.roll(4) {
            let at = self.roll(bytes.len() + 1);
            match self.roll(3) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, u8::try_from(self.roll(256)).unwrap()),
                _ => bytes.splice(at..at, self.bytes(8)).for_each(drop),
            }
        }
        bytes
    }
}

const PATHS: [&str; 24] = [
    "/api/batches",
    "/api/batches/one",
    "/api/batches/one/documents",
    "/api/batches/one/documents/a",
    "/api/batches/one/documents/%00%FF",
    "/api/batches/one/executions",
    "/api/batches/one/calls",
    "/api/batches/one/cost",
    "/api/batches/one/export",
    "/api/batches/one/pause",
    "/api/batches/one/resume",
    "/api/batches/one/retry",
    "/api/batches/one/seal",
    "/api/batches/%2F..%2F",
    "/api/executions/exec_00000000000070008000000000000001",
    "/api/executions/exec_00000000000070008000000000000001/cancel",
    "/api/entities",
    "/api/entities/entity_00000000000070008000000000000001",
    "/api/relations",
    "/api/clusters/cluster_00000000000070008000000000000001",
    "/api/subgraph",
    "/openapi.json",
    "/docs",
    "//api//batches",
];

const NAMES: [&str; 18] = [
    "limit",
    "after",
    "state",
    "status",
    "document",
    "format",
    "base_iri",
    "name",
    "prefix",
    "q",
    "type",
    "batch",
    "around",
    "depth",
    "nodes",
    "subject",
    "predicate",
    "open",
];

const VALUES: [&str; 22] = [
    "",
    "0",
    "1",
    "-1",
    "1000",
    "99999999999999999999",
    "%00",
    "%FF",
    "%F0%9F%92%A9",
    "a%20b",
    "'%20or%201=1--",
    "exec_00000000000070008000000000000001.1",
    "exec_00000000000070008000000000000001.-2147483648",
    "entity_00000000000070008000000000000001",
    "ff.entity_00000000000070008000000000000001",
    ".entity_00000000000070008000000000000001",
    "one",
    "turtle",
    "json",
    "true",
    "%22%22%20-%20(%20%7C%20%26",
    "Completed",
];

/// A request of which much is wrong, and whether its body has no end; most show the key.
fn request(dice: &mut Dice, key: &str) -> (Vec<u8>, bool) {
    let method = *dice.one(&["GET", "POST", "POST", "DELETE", "PUT", "HEAD", "OPTIONS"]);
    // What takes a body is asked more often than its share of the paths.
    let mut target = if dice.roll(3) == 0 {
        "/api/batches".to_owned()
    } else {
        (*dice.one(&PATHS)).to_owned()
    };
    for number in 0..dice.roll(4) {
        let (name, value) = (dice.one(&NAMES), dice.one(&VALUES));
        target.push(if number == 0 { '?' } else { '&' });
        target.extend([*name, "=", *value]);
    }
    let mut request =
        format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n").into_bytes();
    if dice.roll(8) != 0 {
        request.extend_from_slice(format!("authorization: Bearer {key}\r\n").as_bytes());
    }
    let is_json = dice.roll(2) == 0;
    if is_json {
        request.extend_from_slice(b"content-type: application/json\r\n");
    }
    for header in [
        "content-type",
        "idempotency-key",
        "if-none-match",
        "x-request-id",
        "expect",
        "accept",
    ] {
        if dice.roll(2) == 0 || is_json && header == "content-type" {
            continue;
        }
        let value = *dice.one(&[
            "application/json",
            "application/x-ndjson",
            "multipart/form-data; boundary=b",
            "multipart/form-data",
            "text/plain",
            "\"a\", W/\"b\", *",
            "key",
            "\u{e9}\u{e9}",
            "a\tb",
            "",
            "application/json; charset=\"",
        ]);
        request.extend_from_slice(format!("{header}: {value}\r\n").as_bytes());
    }
    let body = if dice.roll(3) == 0 {
        dice.bytes(300)
    } else {
        dice.json()
    };
    let chunked = dice.roll(4) == 0;
    let length = if chunked {
        "transfer-encoding: chunked\r\n\r\n".to_owned()
    } else {
        format!("content-length: {}\r\n\r\n", body.len())
    };
    request.extend_from_slice(length.as_bytes());
    request.extend_from_slice(&body);
    (request, chunked)
}

#[tokio::test]
async fn nonsense_is_never_the_servers_fault() {
    let server = Server::start().await;
    object(
        server
            .submit(&with(&documents(&[("a", DOCUMENT)]), "name", json!("one")))
            .await,
        201,
    )
    .await;
    let address = server.address.strip_prefix("http://").unwrap().to_owned();
    let key = server.key.clone();
    let seeds = tokio::task::spawn_blocking(move || {
        let mut statuses = std::collections::BTreeMap::new();
        for seed in 0..2000 {
            let (request, chunked) = request(&mut Dice(seed), &key);
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let _ = stream.write_all(&request);
            if chunked {
                // It would wait for the end.
                let _ = stream.shutdown(std::net::Shutdown::Write);
            }
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            let head = String::from_utf8_lossy(&answer);
            // A request that was cut off in the middle may be left without an answer.
            let Some(status) = head
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse::<u16>().ok())
            else {
                continue;
            };
            assert!(
                status < 500,
                "seed {seed}: {} -> {head}",
                String::from_utf8_lossy(&request)
            );
            *statuses.entry(status).or_insert(0_u32) += 1;
        }
        statuses
    });
    let statuses = seeds.await.unwrap();
    for status in [200, 400, 401, 404, 405, 415, 422] {
        assert!(
            statuses.contains_key(&status),
            "the nonsense reaches everything: {statuses:?}"
        );
    }
    object(server.get("/healthz").await, 200).await;
    let (status, log) = server.process.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}
