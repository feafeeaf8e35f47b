//! `--resume` in all its forms.

use super::{assert_report, number};
use crate::support::{self, Redis, examples, say};

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_batch_is_reported_at_once() {
    let (database, redis) = (support::migrated().await, Redis::start());
    let run = || {
        let mut command = support::command(&database, &redis);
        command.args(["run", "--json"]);
        command
    };
    let good = examples("broken").join("good.txt");
    let first = say(run().args(["--name", "a"]).arg(&good)).exits(0).json();
    let other = say(run().args(["--name", "b"]).arg(&good)).exits(0).json();
    let batch = first["batch_id"].as_str().unwrap();
    let path = good.to_str().unwrap();
    for (arguments, wanted) in [
        (vec!["--resume", batch], &first),
        (vec!["--resume", "a"], &first),
        (vec!["--resume=a"], &first),
        (vec!["--resume", "--name", "a"], &first),
        (vec!["--name", "a", "--resume", "a"], &first),
        (vec!["--resume", "a", path], &first),
        (vec![path, "--resume", batch], &first),
        // Nothing is unfinished: the newest one.
        (vec!["--resume"], &other),
        (vec!["--resume", path], &other),
    ] {
        let report = say(run().args(&arguments)).exits(0).json();
        assert_report(&report);
        assert_eq!(report["batch_id"], wanted["batch_id"], "{arguments:?}");
        assert_eq!(report["calls"]["made"], 0, "{arguments:?}");
        assert!(number(&report["calls"]["reused"]) > 0, "{arguments:?}");
        assert_eq!(report["entities"], wanted["entities"], "{arguments:?}");
    }
    for (arguments, wanted) in [
        (
            ["--resume", "nope", path].as_slice(),
            "there is no batch `nope`",
        ),
        (&["--resume", "--name", "c", path], "there is no batch `c`"),
        (
            &["--resume", "a", "--name", "b"],
            "is the batch `a`, not `b`",
        ),
    ] {
        let said = say(run().args(arguments)).exits(2);
        assert!(said.stderr.contains(wanted), "{said:#?}");
        assert_eq!(said.stdout, "");
    }
}
