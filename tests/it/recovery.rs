//! `docs/RECOVERY.md`, followed to the letter: every command of its `console` blocks is run, and what the page shows
//! under it must be in what it says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use sqlx::{Connection, PgConnection, Row};

use crate::support::{self, Database, Redis, say};

/// A command of the page, and what it shows under it.
struct Shown {
    command: Vec<String>,
    wanted: Vec<String>,
}

/// The commands of a section of the page, in order.
fn section(title: &str) -> Vec<Shown> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/RECOVERY.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, section) = page
        .split_once(&format!("\n## {title}\n"))
        .unwrap_or_else(|| panic!("the page has no section `{title}`"));
    let section = section.split("\n## ").next().unwrap();
    let shown: Vec<Shown> = section
        .split("```console\n")
        .skip(1)
        .map(|block| {
            let mut lines = block.split("```").next().unwrap().lines();
            let command = lines.next().unwrap().strip_prefix("$ graphmill ").unwrap();
            Shown {
                command: command.split(' ').map(str::to_owned).collect(),
                wanted: lines.map(str::to_owned).collect(),
            }
        })
        .collect();
    assert!(!shown.is_empty(), "`{title}` has commands");
    shown
}

/// Servers, three documents, and a program whose extractor fails one of them while a file says so.
struct Scene {
    database: Database,
    redis: Redis,
    folder: PathBuf,
}

impl Scene {
    async fn new(name: &str) -> Self {
        let folder = support::folder(name);
        fs::create_dir_all(folder.join("documents")).unwrap();
        for (name, who) in [
            ("a.txt", "Ada Lovelace"),
            ("b.txt", "Alan Turing"),
            ("c.txt", "Grace Hopper"),
        ] {
            let text = format!("{who} was born in London. {who} worked for Acme Corporation.");
            fs::write(folder.join("documents").join(name), text).unwrap();
        }
        Self {
            database: support::migrated().await,
            redis: Redis::start(),
            folder,
        }
    }

    fn command(&self) -> Command {
        let tests = std::env::current_exe().unwrap();
        let program = tests.parent().and_then(Path::parent).unwrap();
        let mut command = Command::new(program.join("examples/own_extractor"));
        command
            .env("DATABASE_URL", self.database.url())
            .env("REDIS_URL", self.redis.url())
            .env("WITNESS_FAILS", self.fails())
            .stdin(Stdio::null());
        command
    }

    fn fails(&self) -> PathBuf {
        self.folder.join("fails")
    }

    fn submit(&self) -> Command {
        let mut command = self.command();
        command
            .args([
                "run",
                "--name",
                "mine",
                "--extractor",
                "witness",
                "--unit-retries",
                "0",
            ])
            .arg(self.folder.join("documents"));
        command
    }

    async fn row(&self, sql: &'static str) -> String {
        let mut owner = PgConnection::connect(self.database.url()).await.unwrap();
        let row = sqlx::raw_sql(sql).fetch_one(&mut owner).await.unwrap();
        row.get(0)
    }

    /// Runs what the page says, with `exec_…` standing for the execution of `b.txt`, and compares.
    async fn follow(&self, shown: &Shown) {
        let id = self
            .row(
                "select replace(e.id::text, '-', '') from workflow_execution e
                 join document d on d.id = e.document_id
                 where d.external_id = 'b.txt' order by e.generation limit 1",
            )
            .await;
        let id = format!("exec_{id}");
        let arguments = shown.command.iter().map(|word| word.replace("exec_…", &id));
        let said = say(self.command().args(arguments));
        let all = format!("{}{}", said.stdout, said.stderr);
        for wanted in &shown.wanted {
            let wanted = wanted.trim().replace("exec_…", &id);
            assert!(
                squeezed(&all).contains(&squeezed(&wanted)),
                "`{}` does not say `{wanted}`:\n{all}",
                shown.command.join(" ")
            );
        }
    }
}

/// With one blank for many: the page need not follow the width of a column.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_fails() {
    let scene = Scene::new("recovery-fails").await;
    fs::write(scene.fails(), "b.txt").unwrap();
    say(&mut scene.submit()).exits(1);
    for shown in section("An execution fails") {
        // The cause is mended before anything is tried again.
        if shown.command.contains(&"retry".to_owned()) {
            fs::remove_file(scene.fails()).unwrap();
        }
        scene.follow(&shown).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_progress_stream_drops() {
    let scene = Scene::new("recovery-progress").await;
    let mut work = scene.submit();
    let mut work = work
        .env("WITNESS_MS", "400")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    work = work.env("GRAPHMILL_LOG", "off");
    let _working = Process(work.spawn().unwrap());
    support::eventually("its documents are there", async || {
        let there = "select (count(*) = 3)::text from workflow_execution";
        scene.row(there).await == "true"
    })
    .await;
    // One that watches is cut off.
    let mut watching = scene.command();
    let watching = watching
        .args(["batch", "watch", "mine"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    drop(Process(watching.spawn().unwrap()));
    for shown in section("A progress stream drops") {
        scene.follow(&shown).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_stalls() {
    let scene = Scene::new("recovery-stalls").await;
    let mut work = scene.submit();
    let work = work
        .env("WITNESS_MS", "600000")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let working = Process(work.spawn().unwrap());
    support::eventually("its documents are in work", async || {
        scene
            .row(
                "select (count(*) = 3)::text from workflow_execution
                  where current_activity = 'extract-mentions' and lease_owner is not null",
            )
            .await
            == "true"
    })
    .await;
    drop(working);
    // As if two minutes had passed: its leases have run out, and nobody has seen it since.
    let mut owner = PgConnection::connect(scene.database.url()).await.unwrap();
    sqlx::raw_sql(
        "update workflow_execution set lease_until = now() - interval '2 minutes', updated_at = now() - interval '3 minutes';
         update worker set seen_at = now() - interval '2 minutes'",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    for shown in section("A batch stalls") {
        if shown.wanted.iter().any(|line| line.contains("paused")) {
            say(scene.command().args(["batch", "pause", "mine"])).exits(0);
        }
        scene.follow(&shown).await;
    }
}
