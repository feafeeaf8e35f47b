//! The commands, as their users have them.

use std::process::Command;

use crate::support::{Database, Redis, Said, command, folder, migrated, say};

struct Scene {
    database: Database,
    redis: Redis,
    folder: std::path::PathBuf,
}

impl Scene {
    async fn new(name: &str) -> Self {
        Self {
            database: migrated().await,
            redis: Redis::start(),
            folder: folder(name),
        }
    }

    fn graphmill(&self, arguments: &[&str]) -> Said {
        let mut command: Command = command(&self.database, &self.redis);
        say(command.current_dir(&self.folder).args(arguments))
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.folder.join("docs")).unwrap();
        std::fs::write(self.folder.join("docs").join(name), text).unwrap();
    }
}

const ADA: &str = "Ada Lovelace was born in London. She met Charles Babbage in Turin.";
const MARIE: &str = "Marie Curie was born in Warsaw. She married Pierre Curie in 1895.";
const GRACE: &str = "Grace Hopper was born in New York. She worked for Remington Rand.";

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_opened_added_to_changed_and_sealed_from_the_command_line() {
    let scene = Scene::new("lifecycle-command").await;
    scene.write("a.txt", ADA);
    scene.write("b.txt", MARIE);
    let run = ["run", "docs", "--open", "--name", "news", "--json"];
    let said = scene.graphmill(&run).exits(0);
    assert!(said.stderr.contains("graphmill batch seal"), "{said:?}");
    let report = said.json();
    assert_eq!(
        (&report["open"], &report["clusters"]),
        (&true.into(), &0.into())
    );
    assert_eq!(report["documents"]["completed"], 2, "{report}");

    scene.write("b.txt", GRACE);
    scene.write("c.txt", "");
    let said = scene
        .graphmill(&["batch", "add", "news", "docs", "--json"])
        .exits(1);
    let added = said.json();
    for (what, count) in [
        ("added", 0),
        ("replaced", 1),
        ("unchanged", 1),
        ("refused", 1),
        ("duplicate", 0),
    ] {
        assert_eq!(added[what], count, "{what}: {added}");
    }
    assert!(
        said.stderr.contains("c.txt"),
        "the refused one is named: {said:?}"
    );
    scene.write("c.txt", MARIE);
    let said = scene
        .graphmill(&["batch", "add", "news", "docs/c.txt"])
        .exits(0);
    assert_eq!(said.stdout, "1 added, 0 replaced, 0 unchanged, 0 refused\n");
    let said = scene.graphmill(&["batch", "seal", "news"]).exits(0);
    assert!(said.stderr.contains("sealed"), "{said:?}");
    for arguments in [
        &["batch", "add", "news", "docs"][..],
        &["batch", "remove-document", "news", "a.txt"],
        &["batch", "seal", "news"],
    ] {
        let said = scene.graphmill(arguments).exits(2);
        assert!(
            said.stderr.contains("sealed batch") && said.stderr.contains("Assembling"),
            "the state and the move are named: {said:?}"
        );
    }
    let resumed = scene
        .graphmill(&["run", "--resume", "news", "--json"])
        .exits(0)
        .json();
    assert_eq!(resumed["state"], "Completed", "{resumed}");
    assert_eq!(resumed["documents"]["completed"], 3, "{resumed}");
    assert!(resumed.get("open").is_none(), "{resumed}");

    let said = scene
        .graphmill(&["batch", "remove-document", "news", "nobody.txt"])
        .exits(2);
    assert!(said.stderr.contains("nobody.txt"), "{said:?}");
    let said = scene
        .graphmill(&["batch", "remove-document", "news", "c.txt", "a.txt"])
        .exits(0);
    assert_eq!(said.stdout, "2 removed\n");
    let resumed = scene
        .graphmill(&["run", "--resume", "news", "--json"])
        .exits(0)
        .json();
    assert_eq!(resumed["documents"]["total"], 1, "{resumed}");
    let export = scene
        .graphmill(&["export", "news", "--format", "json"])
        .exits(0)
        .json();
    let documents = export["documents"].as_array().unwrap();
    assert_eq!(documents.len(), 1, "{export}");
    assert_eq!(documents[0]["id"], "b.txt");
    assert!(!export.to_string().contains("Marie"), "{export}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_may_begin_empty() {
    let scene = Scene::new("lifecycle-empty").await;
    let begun = scene
        .graphmill(&["run", "--open", "--name", "later", "--json"])
        .exits(0)
        .json();
    assert_eq!(begun["documents"]["total"], 0, "{begun}");
    scene.write("a.txt", ADA);
    // A resumed open batch takes PATHs, and stays open.
    let resumed = scene
        .graphmill(&["run", "docs", "--resume", "later", "--json"])
        .exits(0)
        .json();
    assert_eq!(
        (&resumed["documents"]["completed"], &resumed["open"]),
        (&1.into(), &true.into())
    );
    scene.graphmill(&["batch", "seal", "later"]).exits(0);
    let ended = scene
        .graphmill(&["run", "--resume", "later", "--json"])
        .exits(0)
        .json();
    assert_eq!(ended["state"], "Completed", "{ended}");
}
