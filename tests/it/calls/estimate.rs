//! What `estimate` says beforehand, against what a run then takes.

use super::*;
use crate::support::{ModelServer, examples};

/// How far an estimate may be from the bill, either way. **Source:** `docs/MODELS.md` says so.
const FACTOR: f64 = 2.0;

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_is_within_its_factor_of_the_bill() {
    let scene = Scene::new("estimate").await;
    let server = ModelServer::start("").await;
    let path = examples("documents");
    let path = path.to_str().unwrap();
    let mut estimate = scene.calling(&server.base_url());
    let estimate = say(estimate.args(["estimate", "--json", path]))
        .exits(0)
        .json();
    let run = scene.run(&server.base_url(), "run", &[path]).exits(0);
    let (stats, run) = (server.stats(), run.json());
    println!("{estimate}\n{stats:?}\n{run}");
    for (what, said, took) in [
        ("calls", &estimate["calls"], stats.billed),
        ("prompt", &estimate["prompt_tokens"], stats.prompt_tokens),
        (
            "completion",
            &estimate["completion_tokens"],
            stats.completion_tokens,
        ),
    ] {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let ratio = said.as_f64().unwrap() / took as f64;
        println!("{what}: {said} said, {took} taken: {ratio:.2}");
        assert!((1.0 / FACTOR..=FACTOR).contains(&ratio), "{what}: {ratio}");
    }
}
