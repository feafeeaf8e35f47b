//! Rebuilds when a migration is added: the binary carries them, and cargo would not notice a new file.

#![allow(clippy::print_stdout, reason = "that is how a build script speaks")]

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
