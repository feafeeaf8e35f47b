//! The bodies of answers are pruned: what was paid stays accounted for, the same question is paid again, and an open
//! batch keeps what it was given.

use super::*;
use crate::support::{BUDGETS_THAT_ARE_WRONG, ModelServer};

fn prune(scene: &Scene) -> Value {
    let ages = ["prune", "--answers-older-than", "0s", "--json"];
    say(scene.binary().args(ages)).exits(0).json()
}

/// Bodies that are there, but for those that only found out how a server is talked to: that is asked once.
const KEPT: &str =
    "select count(*) from llm_call where length(response) > 0 and prompt not like 'probe@%'";

#[tokio::test(flavor = "multi_thread")]
async fn a_pruned_answer_is_paid_again_and_stays_in_the_books() {
    let scene = Scene::new("pruned").await;
    let server = ModelServer::start("").await;
    let file = scene.file(&documents(2));
    scene.run(&server.base_url(), "first", &[&file]).exits(0);
    let paid = billed(&server.bill());
    assert!(paid > 0);
    scene.run(&server.base_url(), "second", &[&file]).exits(0);
    assert_eq!(billed(&server.bill()), paid, "answers are used again");
    let books = "select concat_ws(' ', outcome, prompt_tokens, completion_tokens, cost, request_hash) from llm_call
                 order by id";
    let before = scene.ground.texts(books).await;
    let spent = "select b::text from budget b order by batch_id";
    let budgets = scene.ground.texts(spent).await;
    let asked = usize::try_from(scene.ground.number(KEPT).await).unwrap();
    let report = prune(&scene);
    assert_eq!(report["gone"][0]["kind"], "answers", "{report}");
    assert_eq!(report["gone"][0]["rows"], paid, "{report}");
    assert_eq!(scene.ground.number(KEPT).await, 0);
    assert_eq!(scene.ground.texts(books).await, before);
    // Also when all is counted anew.
    say(scene.binary().args(["budget", "rebuild"])).exits(0);
    assert_eq!(scene.ground.texts(spent).await, budgets);
    let wrong = scene.ground.texts(BUDGETS_THAT_ARE_WRONG).await;
    assert!(wrong.is_empty(), "{wrong:?}");
    let again = scene
        .run(&server.base_url(), "third", &[&file])
        .exits(0)
        .json();
    assert_eq!(again["documents"]["completed"], 2, "{again}");
    assert_eq!(billed(&server.bill()), paid + asked, "paid again");
    let first = scene.show("first");
    assert_eq!(first["entities"], again["entities"]);
    assert_eq!(first["relations"], again["relations"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_batch_keeps_every_answer_that_it_was_given() {
    let scene = Scene::new("pruned-open").await;
    let server = ModelServer::start("").await;
    let file = scene.file(&documents(2));
    scene.run(&server.base_url(), "ended", &[&file]).exits(0);
    let kept = scene.ground.number(KEPT).await;
    assert!(kept > 0);
    // It was given the answers of the other one, and may ask for them again.
    scene
        .run(&server.base_url(), "open", &["--open", &file])
        .exits(0);
    prune(&scene);
    assert_eq!(scene.ground.number(KEPT).await, kept);
    say(scene.binary().args(["batch", "seal", "open"])).exits(0);
    let say_resume = ["run", "--resume", "open", "--json"];
    say(scene.calling(&server.base_url()).args(say_resume)).exits(0);
    let report = prune(&scene);
    assert_eq!(report["gone"][0]["rows"], kept, "{report}");
}
