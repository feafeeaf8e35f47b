//! A changed document, by the bill of the model server: what did not change is not paid again.

use std::{fmt::Write as _, fs};

use graphmill::mock_model::Event;

use super::*;
use crate::support::{ModelServer, Redis, Said, bare, folder, say};

const CHUNKS: usize = 6;

/// A text of as many chunks, the last of which says something else in another version.
fn long(version: usize) -> String {
    let mut text = String::new();
    for part in 0..CHUNKS {
        let version = if part + 1 == CHUNKS { version } else { 0 };
        for sentence in 0..24 {
            // Every sentence is as long as every other, so that all chunks but the last are cut alike.
            write!(
                text,
                "Person{version} Number{part}{sentence:02} was born in London and worked for Siemens in Berlin. "
            )
            .unwrap();
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_changed_document_only_what_changed_is_paid() {
    let (ground, redis) = (Ground::new().await, Redis::start());
    let folder = folder("lifecycle-paid");
    let server = ModelServer::start("").await;
    let graphmill = |arguments: &[&str]| -> Said {
        let mut command = bare();
        command
            .env("DATABASE_URL", ground.url())
            .env("REDIS_URL", redis.url())
            .env("OPENAI_BASE_URL", server.base_url())
            .env("OPENAI_API_KEY", "sk-x")
            .env("GRAPHMILL_MODEL", "mock")
            .current_dir(&folder);
        say(command.args(arguments))
    };
    let billed = || {
        let bill = server.bill();
        let answered = bill.iter().filter(|entry| entry.event == Event::Answered);
        answered.filter(|entry| entry.billed).count()
    };
    fs::write(folder.join("long.txt"), long(0)).unwrap();
    fs::write(folder.join("short.txt"), version(0, 0).text).unwrap();
    let run = [
        "run",
        "--extractor",
        "openai",
        "--name",
        "paid",
        "--json",
        "--fresh",
    ];
    graphmill(&[&run[..], &["long.txt", "short.txt"]].concat()).exits(0);
    let first = billed();

    fs::write(folder.join("long.txt"), long(1)).unwrap();
    let said = graphmill(&["batch", "add", "paid", "long.txt", "short.txt"]).exits(0);
    assert_eq!(said.stdout, "0 added, 1 replaced, 1 unchanged, 0 refused\n");
    let resumed = graphmill(&["run", "--resume", "paid", "--json"])
        .exits(0)
        .json();
    assert_eq!(resumed["documents"]["completed"], 2, "{resumed}");
    let second = billed() - first;
    let stats = server.stats();
    assert!(stats.repeated_requests.is_empty(), "{stats:?}");
    println!("billed at first {first}, for the change {second}");
    // Of mentions and of relations the last chunk and, for what it shares with it, the one before.
    assert!(second > 0 && second <= first / 2, "{second} of {first}");

    // And back: everything that this text needs is there.
    fs::write(folder.join("long.txt"), long(0)).unwrap();
    graphmill(&["batch", "add", "paid", "long.txt"]).exits(0);
    graphmill(&["run", "--resume", "paid", "--json"]).exits(0);
    assert_eq!(billed(), first + second, "going back costs nothing");
    let batch = ground.text("select id::text from batch").await;
    let batch = BatchId::from(batch.parse::<uuid::Uuid>().unwrap());
    ground.assert_counts_equal_rows(batch).await;
}
