//! Settings of models that can't be meant.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_meant_is_wrong_usage_and_says_what_to_do() {
    let scene = Scene::new("setup").await;
    let file = scene.file(&documents(1));
    let nobody = "http://127.0.0.1:1/v1";
    let refused = |said: Said, parts: &[&str]| {
        let said = said.exits(2);
        for part in parts {
            assert!(said.stderr.contains(part), "{part}: {said:#?}");
        }
        assert_eq!(said.stdout, "");
    };
    let config = scene.folder.join("wrong.toml");
    fs::write(&config, "model = \"mock\"\nrpm = 600\nbreaker-second = 3\n").unwrap();
    let path = config.to_str().unwrap();
    refused(
        scene.run(nobody, "n", &["--config", path, &file]),
        &[path, "line 3", "breaker-second"],
    );
    refused(
        scene.run(nobody, "n", &["--max-cost", "1", &file]),
        &["[prices.\"mock\"]", "graphmill.toml", "--max-tokens"],
    );
    let run = ["run", "--extractor", "openai", "--json", &file];
    refused(
        say(scene.binary().args(run)),
        &["OPENAI_API_KEY", "OPENAI_BASE_URL"],
    );
    refused(
        say(scene.binary().env("OPENAI_BASE_URL", nobody).args(run)),
        &["--model", "GRAPHMILL_MODEL"],
    );
    let local = ["run", "--json", "--max-tokens", "5", &file];
    refused(
        say(scene.calling(nobody).args(local)),
        &["`local` calls none"],
    );
    let batches = scene.ground.number("select count(*) from batch").await;
    assert_eq!(batches, 0, "nothing was begun");
}
