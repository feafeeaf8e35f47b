//! `graphmill batch watch --json`: the same stream, on a terminal.

use std::process::Command;

use super::*;
use crate::support::{Drill, Said, say};

fn watch(ground: &Ground, redis: &Redis) -> Command {
    let mut command = bare();
    command
        .env("DATABASE_URL", ground.url())
        .env("REDIS_URL", redis.url())
        .args(["batch", "watch", "watched", "--json"]);
    command
}

fn lines(said: &Said) -> Vec<Value> {
    let lines = said.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_watched_as_lines_of_json_to_its_end() {
    let mut drill = Drill::new().await;
    let ground = std::sync::Arc::clone(&drill.ground);
    let batch = ground
        .submit(&new_batch("watched"), crate::support::documents(3))
        .await;
    let mut command = watch(&ground, &drill.redis);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut first).unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(
        (&first["type"], &first["state"]),
        (&"Snapshot".into(), &"Pending".into())
    );
    drill.start_plain().await;
    let told: Vec<Value> = tokio::task::spawn_blocking(move || {
        let lines = out.lines().map(Result::unwrap);
        lines
            .map(|line| serde_json::from_str(&line).unwrap())
            .collect()
    })
    .await
    .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let log = ground.events(batch).await;
    let after = first["position"].as_i64().unwrap();
    let wanted: Vec<_> = log
        .iter()
        .map(|event| event.position)
        .filter(|at| *at > after)
        .collect();
    let got: Vec<_> = told
        .iter()
        .map(|json| json["position"].as_i64().unwrap())
        .collect();
    assert_eq!(got, wanted);
    assert_eq!(told.last().unwrap()["type"], "BatchCompleted");
    // Once it has ended there is nothing but how it stands.
    let said = say(&mut watch(&ground, &drill.redis)).exits(0);
    let late = lines(&said);
    assert_eq!((late.len(), &late[0]["state"]), (1, &"Completed".into()));
    drill.stop().await;
}
