//! `docker-compose.yml` and `Dockerfile` against the binary. No container engine is needed, so what is proven is
//! that the files say nothing that the binary does not know, and keep to our rules; not that an image builds.

use std::fs;

use serde_norway::Value;

use crate::binary;

/// The services that run from our image.
const OURS: [&str; 3] = ["migrate", "serve", "worker"];

fn file(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn compose() -> Value {
    let mut compose: Value = serde_norway::from_str(&file("docker-compose.yml")).unwrap();
    compose.apply_merge().unwrap();
    compose
}

fn service<'a>(compose: &'a Value, name: &str) -> &'a Value {
    compose["services"]
        .get(name)
        .unwrap_or_else(|| panic!("there is no service `{name}`"))
}

/// The words of a list such as a command.
fn words<'a>(value: &'a Value, what: &str) -> Vec<&'a str> {
    let list = value
        .as_sequence()
        .unwrap_or_else(|| panic!("{what} is not a list"));
    list.iter().map(|word| word.as_str().unwrap()).collect()
}

/// Fails unless the binary takes these arguments and explains each of their flags.
#[track_caller]
fn check_command(arguments: &[&str]) {
    let help = binary::help(arguments)
        .unwrap_or_else(|error| panic!("`graphmill {}`: {error}", arguments.join(" ")));
    let first = arguments.first().copied().unwrap_or_default();
    let known = binary::commands(&binary::help(&[]).unwrap());
    assert!(
        known.iter().any(|command| command == first),
        "`{first}` is not a command"
    );
    let flags = binary::flags(&help);
    for flag in arguments.iter().filter(|word| word.starts_with('-')) {
        let name = flag.split('=').next().unwrap();
        assert!(flags.contains(name), "`graphmill {first}` has no `{name}`");
    }
}

#[test]
fn every_service_is_known() {
    let compose = compose();
    let names: Vec<&str> = compose["services"]
        .as_mapping()
        .unwrap()
        .keys()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert_eq!(names, ["postgres", "redis", "migrate", "serve", "worker"]);
}

#[test]
fn the_binary_takes_every_command() {
    let compose = compose();
    for name in OURS {
        check_command(&words(&service(&compose, name)["command"], name));
        let health = &service(&compose, name)["healthcheck"]["test"];
        if let ["CMD", "graphmill", arguments @ ..] = &*health
            .as_sequence()
            .map_or_else(Vec::new, |_| words(health, name))
        {
            check_command(arguments);
        }
    }
}

#[test]
fn the_binary_knows_every_variable() {
    let compose = compose();
    for name in OURS {
        let command = words(&service(&compose, name)["command"], name);
        let known = binary::variables(&binary::help(&command).unwrap());
        let variables = service(&compose, name)["environment"].as_mapping().unwrap();
        for variable in variables.keys().map(|key| key.as_str().unwrap()) {
            assert!(
                known.contains(variable),
                "`graphmill {}` does not read {variable}",
                command[0]
            );
        }
        for needed in ["DATABASE_URL", "GRAPHMILL_NO_EMBEDDED"] {
            assert!(
                variables.contains_key(needed),
                "`{name}` would look for private servers: {needed}"
            );
        }
    }
}

#[test]
fn services_scale() {
    let compose = compose();
    for (name, service) in compose["services"].as_mapping().unwrap() {
        let name = name.as_str().unwrap();
        assert!(
            service.get("container_name").is_none(),
            "`{name}` has a fixed name"
        );
        if OURS.contains(&name) {
            assert!(service.get("ports").is_none(), "`{name}` has a fixed port");
            assert!(
                service.get("network_mode").is_none(),
                "`{name}` has a fixed network"
            );
        }
    }
}

#[test]
fn nothing_is_open_to_the_world() {
    let compose = compose();
    for (name, service) in compose["services"].as_mapping().unwrap() {
        for port in service
            .get("ports")
            .map_or_else(Vec::new, |ports| words(ports, "ports"))
        {
            assert!(port.starts_with("127.0.0.1:"), "{name:?} publishes {port}");
        }
    }
}

#[test]
fn whatever_runs_on_has_a_health_check() {
    let compose = compose();
    for (name, service) in compose["services"].as_mapping().unwrap() {
        let one_shot = service.get("restart").and_then(Value::as_str) == Some("no");
        let check = service
            .get("healthcheck")
            .and_then(|check| check.get("test"));
        assert!(one_shot || check.is_some(), "{name:?} has no health check");
    }
}

#[test]
fn serve_is_asked_where_it_listens() {
    let compose = compose();
    let serve = service(&compose, "serve");
    let command = words(&serve["command"], "serve");
    let listen = command[command.iter().position(|word| *word == "--listen").unwrap() + 1];
    let check = words(&serve["healthcheck"]["test"], "the health check").join(" ");
    assert!(
        check.contains(&listen.replace(':', "/")),
        "{check} does not ask {listen}"
    );
    assert!(check.contains("GET /healthz "));
}

#[test]
fn the_schema_comes_before_the_work() {
    let compose = compose();
    for name in ["serve", "worker"] {
        let after = &service(&compose, name)["depends_on"];
        assert_eq!(
            after["migrate"]["condition"], "service_completed_successfully",
            "{name}"
        );
        assert_eq!(after["postgres"]["condition"], "service_healthy", "{name}");
        assert_eq!(after["redis"]["condition"], "service_healthy", "{name}");
    }
}

#[test]
fn redis_keeps_what_it_is_given() {
    let compose = compose();
    let command = words(&service(&compose, "redis")["command"], "redis");
    for pair in [
        ["--maxmemory-policy", "noeviction"],
        ["--appendonly", "yes"],
    ] {
        assert!(
            command.windows(2).any(|words| words == pair),
            "{pair:?} is missing"
        );
    }
}

#[test]
fn data_is_on_named_volumes() {
    let compose = compose();
    let volumes = compose["volumes"].as_mapping().unwrap();
    for name in ["postgres", "redis"] {
        let mounted = words(&service(&compose, name)["volumes"], "volumes");
        let volume = mounted[0].split(':').next().unwrap();
        assert!(volumes.contains_key(volume), "`{volume}` is not declared");
    }
}

#[test]
fn the_image_is_the_binary() {
    let dockerfile = file("Dockerfile");
    let binary = dockerfile
        .lines()
        .find_map(|line| line.strip_prefix("ENTRYPOINT "))
        .map(|entry| serde_json::from_str::<Vec<String>>(entry).unwrap())
        .unwrap();
    assert_eq!(binary, ["graphmill"]);
    assert!(env!("CARGO_BIN_EXE_graphmill").ends_with("/graphmill"));
    let last_stage = dockerfile.rsplit("\nFROM ").next().unwrap();
    assert!(
        last_stage.contains("/release/graphmill "),
        "the binary is not copied"
    );
    assert!(
        last_stage.contains("\nUSER graphmill\n"),
        "it would run as root"
    );
    assert!(dockerfile.contains("cargo build --release --locked"));
    let ignored = file(".dockerignore");
    for needed in [".sqlx", "migrations", "jobs", "tests"] {
        assert!(
            ignored.lines().all(|line| line != needed),
            "the build needs {needed}"
        );
    }
}
