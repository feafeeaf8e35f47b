//! What is made of the definitions of the flags: completions that the shells read, man pages that man reads, and the page
//! in docs/ that says every setting.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    binary,
    support::{self, bare, say},
};

#[test]
fn the_page_of_the_settings_is_the_one_that_the_flags_make() {
    let wanted = say(bare().args(["docs", "config"])).exits(0).stdout;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIG.md");
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/CONFIG.md is not what the flags say; this writes it: \
         cargo run --locked -- docs config > docs/CONFIG.md"
    );
}

#[test]
fn every_flag_and_variable_is_on_the_page() {
    let page = say(bare().args(["docs", "config"])).exits(0).stdout;
    let mut seen = 0;
    for (words, flags) in binary::every_command() {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        for flag in flags {
            if flag != "--help" && flag != "--version" {
                let told =
                    page.contains(&format!("`{flag}`")) || page.contains(&format!("`{flag} "));
                assert!(told, "{words:?} has {flag}");
                seen += 1;
            }
        }
        for variable in binary::variables(&binary::help(&words).unwrap()) {
            assert!(page.contains(&format!("`{variable}`")), "{variable}");
        }
    }
    assert!(seen > 100, "only {seen} flags");
    for hidden in [
        "GRAPHMILL_LEASE",
        "GRAPHMILL_PG_BIN",
        "prices.MODEL.input",
        "model-ca-file",
    ] {
        assert!(page.contains(&format!("`{hidden}`")), "{hidden}");
    }
    // A default and what a setting may be.
    assert!(
        page.contains("| `.graphmill` |") && page.contains("One of `text`, `json`."),
        "{page}"
    );
}

/// A program of this machine, if it is there.
fn there(program: &str) -> bool {
    let mut look = Command::new(program);
    look.arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    look.status().is_ok_and(|status| status.success())
}

#[test]
fn bash_completes_commands_and_flags() {
    let script = say(bare().args(["completions", "bash"])).exits(0).stdout;
    let file = support::folder("completions").join("graphmill.bash");
    fs::write(&file, script).unwrap();
    let ask = |line: &str| {
        let words: Vec<String> = line.split(' ').map(|word| format!("'{word}'")).collect();
        let shell = format!(
            "source '{}'; COMP_WORDS=({}); COMP_CWORD={}; COMP_LINE='{line}'; \
             _graphmill graphmill \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.display(),
            words.join(" "),
            words.len() - 1,
        );
        let output = Command::new("bash").args(["-c", &shell]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(ask("graphmill pru"), "prune\n");
    assert_eq!(ask("graphmill batch rer"), "rerun\n");
    assert_eq!(ask("graphmill prune --batches"), "--batches-older-than\n");
}

#[test]
fn other_shells_read_their_completions() {
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = say(bare().args(["completions", shell])).exits(0).stdout;
        assert!(script.contains("older-than"), "{shell}");
        if ["zsh", "fish"].contains(&shell) && there(shell) {
            let file = support::folder("completions").join(shell);
            fs::write(&file, script).unwrap();
            let read = Command::new(shell).arg("-n").arg(&file).output().unwrap();
            assert!(read.status.success(), "{read:?}");
        }
    }
    let said = say(bare().args(["completions", "csh"])).exits(2);
    assert!(said.stderr.contains("bash"), "{said:#?}");
}

#[test]
fn there_is_a_man_page_for_each_command() {
    let page = say(bare().arg("man")).exits(0).stdout;
    assert!(
        page.contains(".TH graphmill 1") && page.contains("prune"),
        "{page}"
    );
    let folder = support::folder("man").join("man1");
    let output = folder.to_str().unwrap();
    say(bare().args(["man", "--output", output])).exits(0);
    for (words, flags) in binary::every_command() {
        let name = ["graphmill".to_owned()]
            .into_iter()
            .chain(words)
            .collect::<Vec<_>>();
        let page = fs::read_to_string(folder.join(format!("{}.1", name.join("-"))))
            .unwrap_or_else(|error| panic!("{}: {error}", name.join(" ")));
        // A dash is written with its backslash.
        let page = page.replace("\\-", "-");
        for flag in flags {
            assert!(page.contains(&flag), "{}: {flag}", name.join(" "));
        }
    }
    assert!(
        !folder.join("graphmill-mock-model.1").exists(),
        "it is hidden"
    );
}
