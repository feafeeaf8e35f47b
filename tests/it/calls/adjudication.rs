//! `run --adjudicate`, as somebody uses it.

use super::*;
use crate::{resolution::adjudicated::DOUBTS, support::ModelServer};

fn texts() -> Vec<NewDocument> {
    let numbered = (0..).zip(DOUBTS);
    numbered
        .map(|(number, text)| NewDocument::new(format!("d{number}"), text))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_asks_about_names_whoever_extracts_and_asks_nothing_again() {
    let scene = Scene::new("adjudicate").await;
    let server = ModelServer::start("").await;
    let url = server.base_url();
    let file = scene.file(&texts());
    let run = |arguments: &[&str]| {
        let mut command = scene.calling(&url);
        say(command.args(["run", "--json"]).args(arguments))
    };
    let found = run(&["--name", "asked", "--adjudicate", &file])
        .exits(0)
        .json();
    let asked = &found["adjudication"];
    assert_eq!(asked["answered"], 1, "{found}");
    assert_eq!(asked["same"], 5, "{found}");
    assert_eq!(asked["most"], 50, "{found}");
    let (bill, lines) = (server.bill(), scene.lines("asked"));
    assert!(
        lines.iter().all(|line| line["stage"] == "resolve"),
        "{lines:#?}"
    );
    let pairs = lines.iter().filter(|line| line["prompt"] == "pairs@1");
    assert_eq!(pairs.count(), 1, "{lines:#?}");
    assert_eq!(assert_paid_once(&bill, &scene.ledger("asked")), 0);
    let shown = say(scene.binary().args(["batch", "show", "asked"])).exits(0);
    assert!(
        shown.stdout.contains("asked      1 questions"),
        "{shown:#?}"
    );

    say(scene
        .binary()
        .args(["batch", "rerun", "asked", "--from", "resolve"]))
    .exits(0);
    let again = run(&["--resume", "asked", "--adjudicate"]).exits(0).json();
    assert_eq!(server.bill().len(), bill.len(), "nothing was sent");
    assert_eq!(scene.lines("asked").len(), lines.len(), "nor asked");
    for what in ["adjudication", "clusters"] {
        assert_eq!(again[what], found[what], "{what}");
    }

    let other = [
        "--resume",
        "asked",
        "--adjudicate",
        "--adjudicate-most",
        "3",
    ];
    let other = run(&other).exits(2);
    assert!(other.stderr.contains("--adjudicate differs"), "{other:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_to_ask_is_wrong_usage_and_an_estimate_says_what_comes_on_top() {
    let scene = Scene::new("nobody").await;
    let file = scene.file(&texts());
    let nobody = "http://127.0.0.1:1/v1";
    let run = ["run", "--json", "--adjudicate", &file];
    for (command, parts) in [
        (
            scene.binary().args(run),
            ["OPENAI_BASE_URL", "--adjudicate"],
        ),
        (
            scene.binary().env("OPENAI_BASE_URL", nobody).args(run),
            ["--model", "GRAPHMILL_MODEL"],
        ),
        (
            scene
                .calling(nobody)
                .args(["run", "--json", "--adjudicate-most", "3", &file]),
            ["--adjudicate", "--adjudicate-most"],
        ),
    ] {
        let said = say(command).exits(2);
        for part in parts {
            assert!(said.stderr.contains(part), "{part}: {said:#?}");
        }
    }
    let batches = scene.ground.number("select count(*) from batch").await;
    assert_eq!(batches, 0, "nothing was begun");
    let estimate = say(scene.calling(nobody).args(["estimate", &file])).exits(0);
    assert!(
        estimate.stdout.contains("`run --adjudicate` comes on top"),
        "{estimate:#?}"
    );
}
