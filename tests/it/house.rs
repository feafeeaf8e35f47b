//! The rules of the house, read off the source text: which rooms there are, who may name whom, and which outside
//! crate belongs to which room. `src/lib.rs` is the same in words.
//!
//! Knows Rust only as far as paths go: comments and literals are dropped, `use` trees are spread out. A path that a
//! macro puts together would slip through.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A room, its floor (0 is the basement), and what it may name besides itself: a room, or a path in one.
struct Room {
    name: &'static str,
    floor: u8,
    names: &'static [&'static str],
}

const ROOMS: [Room; 20] = [
    // Exception: `config` is in the basement and names upper rooms, but only the plain settings that it fills from
    // flags. The other way round, every room would know the environment.
    Room {
        name: "config",
        floor: 0,
        names: &[
            "servers",
            "flow::PartialPolicy",
            "flow::RetryPolicy",
            "store::PoolSettings",
            "pipeline::Limits",
            "pipeline::Settings",
            "pipeline::UnitSettings",
            "worker::WorkerSettings",
            "queue::LimitSettings",
            "extractors::ModelChoice",
            "extractors::OpenAiSettings",
            "extractors::Price",
            "extractors::Secret",
            "notify::Secrets",
            "notify::SecretsError",
        ],
    },
    // It is set up from the flags for logs, which are `config`'s.
    Room {
        name: "telemetry",
        floor: 0,
        names: &["config"],
    },
    Room {
        name: "servers",
        floor: 0,
        names: &[],
    },
    // Labels are words of upper rooms, handed down as such.
    Room {
        name: "metrics",
        floor: 0,
        names: &[],
    },
    // It stands in for a stranger's server: what it says of graphmill is worth something because it shares nothing.
    Room {
        name: "mock_model",
        floor: 0,
        names: &[],
    },
    Room {
        name: "graph",
        floor: 1,
        names: &[],
    },
    Room {
        name: "flow",
        floor: 1,
        names: &[],
    },
    Room {
        name: "store",
        floor: 2,
        names: &["flow", "graph"],
    },
    // A queue belongs to a stage, and requests have a rate; nothing else of floor 1 is its business.
    Room {
        name: "queue",
        floor: 2,
        names: &["flow::Stage", "flow::RequestRate"],
    },
    Room {
        name: "extractors",
        floor: 2,
        names: &["flow", "graph"],
    },
    // Another outside system than the models of `extractors`: users' servers, which are told and not asked.
    Room {
        name: "notify",
        floor: 2,
        names: &[],
    },
    Room {
        name: "pipeline",
        floor: 3,
        names: &["flow", "graph", "store", "extractors"],
    },
    // A neighbour on its floor: a batch is submitted with the settings and checks of `pipeline`.
    Room {
        name: "workflow",
        floor: 3,
        names: &[
            "metrics",
            "telemetry",
            "flow",
            "graph",
            "store",
            "notify",
            "pipeline",
        ],
    },
    Room {
        name: "keys",
        floor: 3,
        names: &["flow::RequestRate", "store"],
    },
    // A neighbour on its floor: the gate that is asked before a call is the one that is asked before a unit.
    Room {
        name: "calls",
        floor: 3,
        // It tells those who follow a batch what its calls wait for: events are `flow`'s.
        names: &[
            "metrics",
            "telemetry",
            "flow",
            "store",
            "queue",
            "extractors",
            "pipeline::Gate",
        ],
    },
    Room {
        name: "worker",
        floor: 4,
        names: &[
            "metrics",
            "telemetry",
            "calls",
            "flow",
            "graph",
            "store",
            "queue",
            "extractors",
            "notify",
            "pipeline",
            "workflow",
        ],
    },
    Room {
        name: "api",
        floor: 4,
        names: &[
            "telemetry",
            "metrics",
            "flow",
            "graph",
            "store",
            "queue",
            "notify::Address",
            "pipeline",
            "workflow",
            "keys",
        ],
    },
    // Its listener has no keys, so it is none of `api`'s.
    Room {
        name: "scrape",
        floor: 4,
        names: &["metrics", "flow", "store", "queue", "calls::Access"],
    },
    // Another surface than `api`, for eyes: it shares no route with it, and what both need stands below them.
    Room {
        name: "board",
        floor: 4,
        names: &["flow", "store", "queue::RateLimiter", "keys"],
    },
    // It hands the extractors on, and runs nothing of them; a corpus's own mentions stand before one of them. It is the only one that names neighbours: `worker` and
    // `serve` are commands.
    Room {
        name: "cli",
        floor: 4,
        names: &[
            "config",
            "telemetry",
            "metrics",
            "servers",
            "mock_model",
            "flow",
            "graph",
            "store",
            "queue",
            "notify",
            "extractors::Extractor",
            "extractors::Extractors",
            "extractors::Given",
            "extractors::Local",
            "extractors::RelationScorer",
            "extractors::Model",
            "extractors::OpenAi",
            "extractors::DirectCalls",
            "extractors::check_prompt",
            "extractors::estimate",
            "extractors::Estimate",
            "extractors::ModelSettings",
            "extractors::Price",
            "extractors::StageEstimate",
            // Behind a feature: the trainer is a command of its own.
            "extractors::train",
            "pipeline",
            "workflow",
            "keys",
            "worker",
            "scrape",
            "api",
            "board",
        ],
    },
];

/// Paths that a room may not name although it may name the room that they are in.
const FORBIDDEN: [(&str, &str, &str); 4] = [
    (
        "cli",
        "pipeline::run",
        "`cli` works through `worker` or `pipeline::extract`",
    ),
    ("api", "pipeline::run", "`api` runs no stage"),
    ("api", "pipeline::extract", "`api` runs no stage"),
    (
        "workflow",
        "pipeline::run",
        "making batches move is the worker's business",
    ),
];

/// Upward or sideways names that [`ROOMS`] allows; everything else there must be a room below.
const EXCEPTIONS: [(&str, &str); 15] = [
    ("config", "servers"),
    ("config", "flow"),
    ("config", "store"),
    ("config", "pipeline"),
    ("config", "worker"),
    ("config", "queue"),
    ("config", "extractors"),
    ("config", "notify"),
    ("calls", "pipeline"),
    ("telemetry", "config"),
    ("workflow", "pipeline"),
    ("cli", "worker"),
    ("cli", "scrape"),
    ("cli", "api"),
    ("cli", "board"),
];

/// Outside crates, and the rooms that may use them.
const CRATES: [(&str, &[&str]); 35] = [
    // What is found in texts, and finding it, knows no job and no id.
    (
        "graphmill_jobs",
        &[
            "flow", "store", "queue", "keys", "calls", "workflow", "worker", "api", "board", "cli",
        ],
    ),
    ("sqlx", &["store"]),
    ("redis", &["queue"]),
    ("apalis", &["queue"]),
    ("apalis_codec", &["queue"]),
    // The board asks a backend's traits; ours is made of rows.
    ("apalis_board", &["board"]),
    ("apalis_core", &["queue", "board"]),
    ("apalis_redis", &["queue"]),
    ("reqwest", &["extractors", "notify", "telemetry"]),
    ("hmac", &["notify", "keys"]),
    ("base64", &["notify", "keys", "board"]),
    ("subtle", &["keys"]),
    ("getrandom", &["keys"]),
    ("clap", &["config", "cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("axum", &["api", "board", "scrape", "mock_model"]),
    ("prometheus_client", &["metrics"]),
    ("tower_http", &["api", "board"]),
    // What is reported says of itself what it looks like: the API's document is made of it.
    ("utoipa", &["workflow", "api"]),
    ("utoipa_axum", &["api"]),
    ("indicatif", &["cli"]),
    ("walkdir", &["cli"]),
    // Child processes and their files; and how far back the threads for units stand.
    ("rustix", &["servers", "pipeline"]),
    ("tracing_subscriber", &["telemetry"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("opentelemetry_proto", &["telemetry"]),
    ("prost", &["telemetry"]),
    ("csv", &["graph"]),
    ("toml", &["graph", "mock_model", "config"]),
    ("oxrdf", &["graph"]),
    ("oxrdfxml", &["graph"]),
    ("oxttl", &["graph"]),
    // For programs, not for rooms: a room has typed errors.
    ("anyhow", &[]),
];

/// What the pure rooms may not name, for async, clocks and I/O begin here.
const IMPURE: [&str; 12] = [
    "tokio",
    "tokio_util",
    "futures_util",
    "async_trait",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "chrono",
];

/// Lines that a source file may have. Beyond it a file has more than one thought.
const LIMIT: usize = 700;

/// Files that are longer, and how long they may be; never a reason to let another one grow.
const LONG: [(&str, usize); 1] = [
    // Every statement on the hottest table; to be cut by question (admit, lease, settle, ring).
    ("src/store/execution.rs", 650),
];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 8] = [
    "mod", "utils", "util", "common", "helpers", "core", "models", "manager",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The `.rs` files below `folder`, by their path from the root of the repository.
fn sources(folder: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(root())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

fn everything() -> BTreeMap<String, String> {
    ["src", "jobs/src", "tests", "benches", "examples"]
        .into_iter()
        .flat_map(sources)
        .collect()
}

/// The parts of a source file's path below `src`, without the ending: `src/a/b.rs` is `a`, `b`.
fn modules(file: &str) -> Vec<&str> {
    file.strip_prefix("src/")
        .unwrap()
        .strip_suffix(".rs")
        .unwrap()
        .split('/')
        .collect()
}

/// The files of the rooms, each with its room.
fn room_files() -> Vec<(String, String, String)> {
    let mut files = Vec::new();
    for (file, text) in sources("src") {
        let room = modules(&file)[0].to_owned();
        if room != "lib" && room != "main" {
            files.push((room, file, text));
        }
    }
    files
}

/// Fails with every complaint at once.
#[track_caller]
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn the_rooms_are_those_of_the_map() {
    let there: BTreeSet<String> = room_files().into_iter().map(|(room, ..)| room).collect();
    let wanted: BTreeSet<String> = ROOMS.iter().map(|room| room.name.to_owned()).collect();
    assert_eq!(there, wanted);
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let doors: Vec<String> = wanted
        .iter()
        .filter(|room| !root().join(format!("src/{room}.rs")).is_file())
        .map(|room| format!("src/{room}.rs, the door of `{room}`, is missing"))
        .chain(
            wanted
                .iter()
                .filter(|room| !map.contains(&format!("| [`{room}`] |")))
                .map(|room| format!("`{room}` is missing on the map, src/lib.rs")),
        )
        .collect();
    none(&doors);
}

#[test]
fn a_room_names_only_what_it_may() {
    let mut complaints = Vec::new();
    for (room, file, text) in room_files() {
        let allowed = ROOMS
            .iter()
            .find(|known| known.name == room)
            .map_or(&[][..], |room| room.names);
        for path in paths(&text) {
            let Some(named) = path.strip_prefix("crate::") else {
                continue;
            };
            if !within(named, &room) && !allowed.iter().any(|allowed| within(named, allowed)) {
                complaints.push(format!("{file}: `{room}` may not name `{path}`"));
            }
        }
        for (of, forbidden, why) in FORBIDDEN {
            // Through the room's name too, which `use crate::pipeline;` brings in.
            let named = |path: &String| within(path.trim_start_matches("crate::"), forbidden);
            if room == of && paths(&text).iter().any(named) {
                complaints.push(format!("{file}: names `{forbidden}`, but {why}"));
            }
        }
    }
    none(&complaints);
}

#[test]
fn nobody_climbs_out_of_a_room_by_super() {
    let mut complaints = Vec::new();
    for (_, file, text) in room_files() {
        let depth = modules(&file).len();
        for path in paths(&text) {
            let climbed = path.split("::").take_while(|&part| part == "super").count();
            // A test module in the file is one deeper, and names its file with the first `super`.
            if climbed > depth || (climbed == depth && depth > 1) {
                complaints.push(format!("{file}: `{path}`: say `crate::`"));
            }
        }
    }
    none(&complaints);
}

#[test]
fn the_floors_stand_on_one_another() {
    let floor = |name: &str| ROOMS.iter().find(|room| room.name == name).unwrap().floor;
    let mut complaints = Vec::new();
    for room in &ROOMS {
        for named in room.names {
            let named = named.split("::").next().unwrap();
            let below = floor(named) < room.floor;
            if !below && !EXCEPTIONS.contains(&(room.name, named)) {
                complaints.push(format!("`{named}` is not below `{}`", room.name));
            }
        }
    }
    none(&complaints);
}

#[test]
fn the_map_allows_nothing_that_nobody_needs_upwards() {
    let used: BTreeSet<(String, String)> = room_files()
        .into_iter()
        .flat_map(|(room, _, text)| {
            paths(&text).into_iter().filter_map(move |path| {
                let named = path.strip_prefix("crate::")?.split("::").next()?.to_owned();
                Some((room.clone(), named))
            })
        })
        .collect();
    let floor = |name: &str| ROOMS.iter().find(|room| room.name == name).unwrap().floor;
    let unused: Vec<String> = EXCEPTIONS
        .into_iter()
        .filter(|&(room, named)| floor(room) <= floor(named))
        .filter(|&(room, named)| !used.contains(&(room.to_owned(), named.to_owned())))
        .map(|(room, named)| format!("`{room}` no longer names `{named}`: take the exception away"))
        .collect();
    none(&unused);
}

#[test]
fn an_outside_crate_stays_in_its_room() {
    let mut complaints = Vec::new();
    for (room, file, text) in room_files() {
        for (name, rooms) in CRATES {
            // `servers/redis.rs` is a module, not the crate.
            let own = root().join(format!("src/{room}/{name}.rs")).is_file();
            if own || rooms.contains(&room.as_str()) {
                continue;
            }
            for path in paths(&text).into_iter().filter(|path| within(path, name)) {
                complaints.push(format!("{file}: `{path}` belongs to {rooms:?}"));
            }
        }
    }
    none(&complaints);
}

#[test]
fn the_first_floor_is_pure() {
    let mut complaints = Vec::new();
    for (room, file, text) in room_files() {
        let pure = ROOMS
            .iter()
            .any(|known| known.name == room && known.floor == 1);
        // A test may look at the clock: how long something takes is a claim too.
        if !pure || file.ends_with("/tests.rs") {
            continue;
        }
        let text = text.split("#[cfg(test)]").next().unwrap();
        for path in paths(text) {
            if IMPURE.iter().any(|impure| within(&path, impure)) {
                complaints.push(format!("{file}: `{path}` is not pure"));
            }
        }
        if tokens(&bare(text)).contains(&"async") {
            complaints.push(format!("{file}: async is not pure"));
        }
    }
    none(&complaints);
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = everything()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(file, _)| format!("{file} does not open with `//!`"))
        .collect();
    none(&silent);
}

#[test]
fn file_names_say_what_is_inside() {
    let mut complaints = Vec::new();
    for file in everything().keys() {
        let path = PathBuf::from(file);
        let name = path.file_stem().unwrap().to_str().unwrap();
        if EMPTY_NAMES.contains(&name) {
            complaints.push(format!("{file}: name it for what is inside"));
        }
        let folder = path.parent().unwrap();
        let door = root().join(folder).with_extension("rs");
        if modules_folder(folder) && !door.is_file() {
            complaints.push(format!(
                "{file}: `{}` has no door beside it",
                folder.display()
            ));
        }
    }
    none(&complaints);
}

/// Whether a folder holds the modules of another file.
fn modules_folder(folder: &Path) -> bool {
    let inside = ["src", "jobs/src", "tests/it"]
        .iter()
        .any(|root| folder.starts_with(root));
    inside
        && !["src", "jobs/src", "tests/it"]
            .iter()
            .any(|root| folder == Path::new(root))
}

#[test]
fn files_stay_short() {
    let long: Vec<String> = sources("src")
        .into_iter()
        .filter_map(|(file, text)| {
            let limit = LONG
                .iter()
                .find(|(long, _)| *long == file)
                .map_or(LIMIT, |&(_, limit)| limit);
            let lines = text.lines().count();
            (lines > limit).then(|| format!("{file} has {lines} lines, at most {limit} are good"))
        })
        .collect();
    none(&long);
}

/// Whether `path` is `room` or in it.
fn within(path: &str, room: &str) -> bool {
    path.strip_prefix(room)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every path of a source text, with `use` trees spread out.
fn paths(text: &str) -> Vec<String> {
    let bare = bare(text);
    let tokens = tokens(&bare);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_word(tokens[at]) && tokens.get(at + 1) == Some(&"::") {
            at = tree(&tokens, at, "", &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads the path at `at`, or the tree that it ends in, and returns where it ends.
fn tree(tokens: &[&str], mut at: usize, prefix: &str, found: &mut Vec<String>) -> usize {
    let mut path = prefix.to_owned();
    loop {
        match tokens.get(at).copied() {
            Some("{") => {
                at += 1;
                while let Some(&token) = tokens.get(at) {
                    at = match token {
                        "}" => break,
                        "{" | "::" => tree(tokens, at, &path, found),
                        token if is_word(token) => tree(tokens, at, &path, found),
                        _ => at + 1,
                    };
                }
                return at + 1;
            }
            Some(word) if is_word(word) => {
                // `a::{self}` names `a`.
                if word != "self" || path.is_empty() {
                    path.push_str(if path.is_empty() { "" } else { "::" });
                    path.push_str(word);
                }
                at += 1;
            }
            _ => {}
        }
        if tokens.get(at) != Some(&"::") {
            found.push(path);
            return at;
        }
        at += 1;
        if !tokens
            .get(at)
            .is_some_and(|token| is_word(token) || *token == "{")
        {
            found.push(path);
            return at;
        }
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::` and single characters.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// A source text without its comments and literals.
fn bare(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(end) = raw_string(rest).filter(|_| !bare.ends_with(is_word_end)) {
            end
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && is_char_literal(rest) {
            quoted(rest, '\'')
        } else {
            0
        };
        if skipped == 0 {
            bare.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            bare.push(' ');
            rest = &rest[skipped..];
        }
    }
    bare
}

fn is_word_end(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where the raw string at the beginning ends, if there is one.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let inside = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(text.len() - inside.len() + length)
}

/// Where the literal at the beginning ends.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// A character, and not a lifetime.
fn is_char_literal(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => true,
        (Some(_), second) => second == Some('\''),
        (None, _) => false,
    }
}

#[test]
fn paths_are_read_off_a_text() {
    let text = r##"
        //! `crate::comment`
        use crate::{a::{self, B}, c, super::odd};
        use std::{fs, time::{Duration, Instant}};
        fn f<'a>(x: &'a str) -> Vec::<u8> { let q = '"'; d::e("crate::text", r#"crate::"raw"#); $crate::g::h!() }
    "##;
    let wanted = [
        "crate::a",
        "crate::a::B",
        "crate::c",
        "crate::super::odd",
        "std::fs",
        "std::time::Duration",
        "std::time::Instant",
        "Vec",
        "d::e",
        "crate::g::h",
    ];
    assert_eq!(paths(text), wanted);
}
