//! Redis: how the server is run, and when it is ready. Knows Redis' options; supervises nothing.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::folder::Folder;
use super::plan::Plan;
use super::{Durability, Server};

/// How long a PING may take before it counts as no answer.
const PING: Duration = Duration::from_secs(1);

/// The server, with every write in its append-only file: a queue must not forget, and must not evict.
pub(super) fn server(plan: &Plan, redis: &Path) -> Command {
    let mut command = plan.command(redis);
    command
        .args(["--port", "0", "--unixsocket"])
        .arg(plan.folder.socket(Server::Redis));
    command
        .args(["--unixsocketperm", "700", "--dir"])
        .arg(plan.folder.redis());
    command.args([
        "--appendonly",
        "yes",
        "--save",
        "",
        "--maxmemory-policy",
        "noeviction",
    ]);
    command.args([
        "--appendfsync",
        match plan.settings.durability {
            Durability::Full => "everysec",
            Durability::Test => "no",
        },
    ]);
    command.args(["--daemonize", "no", "--logfile", ""]);
    command
}

/// Whether the server answers; it doesn't while it is still loading.
pub(super) fn is_ready(folder: &Folder) -> bool {
    let Ok(mut socket) = UnixStream::connect(folder.socket(Server::Redis)) else {
        return false;
    };
    let mut answer = [0; 5];
    socket.set_read_timeout(Some(PING)).is_ok()
        && socket.write_all(b"PING\r\n").is_ok()
        && socket.read_exact(&mut answer).is_ok()
        && &answer == b"+PONG"
}
