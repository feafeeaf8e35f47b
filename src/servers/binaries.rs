//! Finds the servers' binaries and asks them for their versions. Looks, never writes; knows no data folder.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Server, ServersError, Settings};

/// The oldest Postgres whose options and SQL we use.
const OLDEST_POSTGRES: u32 = 13;

/// Folders of which every entry may hold one Postgres, with the binaries in `bin`: Debian's, and Homebrew's two.
const POSTGRES_PARENTS: [&str; 3] = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"];

/// Folders that hold Redis where `PATH` doesn't name them.
const REDIS_FOLDERS: [&str; 4] = [
    "/usr/bin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
    "/usr/local/opt/redis/bin",
];

/// The versions of the servers in use, as they call themselves; `None` for one that wasn't asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    /// Such as `15.18`.
    pub postgres: Option<String>,
    /// Such as `7.0.15`.
    pub redis: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub(super) struct Binaries {
    pub(super) postgres: Option<PostgresBinaries>,
    pub(super) redis: Option<PathBuf>,
    pub(super) versions: Versions,
}

/// One installation of Postgres.
#[derive(Debug, Clone)]
pub(super) struct PostgresBinaries {
    pub(super) postgres: PathBuf,
    pub(super) initdb: PathBuf,
    pub(super) major: u32,
}

impl Binaries {
    /// Looks for what the settings ask for; `cluster` is an existing one, which pins the major version.
    pub(super) fn find(settings: &Settings, cluster: &Path) -> Result<Self, ServersError> {
        let mut found = Self::default();
        let mut missing = Vec::new();
        if settings.wants(Server::Postgres) {
            let pinned = cluster_major(cluster);
            let mut installed = postgres_folders(settings).into_iter().filter_map(|bin| {
                let (postgres, initdb) = (bin.join("postgres"), bin.join("initdb"));
                (is_executable(&postgres) && is_executable(&initdb)).then_some(())?;
                let version = version(&postgres, "-V", settings, postgres_version)?;
                let major = version
                    .split('.')
                    .next()
                    .and_then(|major| major.parse().ok())?;
                (major >= OLDEST_POSTGRES).then_some((
                    PostgresBinaries {
                        postgres,
                        initdb,
                        major,
                    },
                    version,
                ))
            });
            let mut first = None;
            let fitting = installed.find(|(candidate, _)| {
                first.get_or_insert(candidate.major);
                pinned.is_none_or(|major| major == candidate.major)
            });
            match (fitting, first, pinned) {
                (Some((binaries, version)), _, _) => {
                    found.postgres = Some(binaries);
                    found.versions.postgres = Some(version);
                }
                (None, Some(_), Some(major)) => {
                    return Err(ServersError::OtherMajor {
                        pg: cluster.to_owned(),
                        major,
                    });
                }
                (None, _, _) => missing.push("Postgres"),
            }
        }
        if settings.wants(Server::Redis) {
            let usable = redis_candidates(settings).into_iter().find_map(|path| {
                let version = version(&path, "-v", settings, redis_version)?;
                Some((path, version))
            });
            match usable {
                Some((path, version)) => {
                    found.redis = Some(path);
                    found.versions.redis = Some(version);
                }
                None => missing.push("Redis"),
            }
        }
        match missing[..] {
            [] => Ok(found),
            [missing] => Err(ServersError::Missing { missing }),
            _ => Err(ServersError::Missing {
                missing: "Postgres/Redis",
            }),
        }
    }
}

/// The major version that made a cluster; `None` where there is no cluster.
pub(super) fn cluster_major(cluster: &Path) -> Option<u32> {
    fs::read_to_string(cluster.join("PG_VERSION"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Folders that may hold `postgres` and `initdb`, best first. One that the settings name is the only one.
fn postgres_folders(settings: &Settings) -> Vec<PathBuf> {
    if let Some(bin) = &settings.pg_bin {
        return vec![bin.clone()];
    }
    // Only the link's target has `initdb` beside it and finds its share folder.
    let mut folders: Vec<PathBuf> = on_path(settings.search_path.as_deref(), "postgres")
        .filter_map(|postgres| Some(fs::canonicalize(postgres).ok()?.parent()?.to_owned()))
        .collect();
    for parent in POSTGRES_PARENTS {
        let mut homes: Vec<PathBuf> = fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        homes.sort_by_key(|home| std::cmp::Reverse(number_in(home)));
        folders.extend(homes.into_iter().map(|home| home.join("bin")));
    }
    folders.push("/usr/local/pgsql/bin".into());
    folders
}

/// Files that may be Redis, best first. One that the settings name is the only one.
fn redis_candidates(settings: &Settings) -> Vec<PathBuf> {
    if let Some(path) = &settings.redis_server {
        return vec![path.clone()];
    }
    ["redis-server", "valkey-server"]
        .into_iter()
        .flat_map(|name| {
            let usual = REDIS_FOLDERS
                .into_iter()
                .map(move |folder| Path::new(folder).join(name));
            on_path(settings.search_path.as_deref(), name).chain(usual)
        })
        .filter(|path| is_executable(path))
        .collect()
}

fn on_path(search_path: Option<&OsStr>, name: &str) -> impl Iterator<Item = PathBuf> {
    let folders: Vec<PathBuf> = search_path
        .map(|path| std::env::split_paths(path).collect())
        .unwrap_or_default();
    let name = OsString::from(name);
    folders
        .into_iter()
        .map(move |folder| folder.join(&name))
        .filter(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The version number in a folder's name, so that `9` sorts below `15`.
fn number_in(home: &Path) -> u32 {
    let name = home.file_name().unwrap_or_default().to_string_lossy();
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Runs `program flag` and takes the version from its answer; `None` when it can't run (a missing library, say).
fn version(
    program: &Path,
    flag: &str,
    settings: &Settings,
    parse: fn(&str) -> Option<&str>,
) -> Option<String> {
    let mut command = Command::new(program);
    command.arg(flag);
    if let Some(path) = &settings.library_path {
        command.env("LD_LIBRARY_PATH", path);
    }
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    parse(&String::from_utf8_lossy(&output.stdout)).map(ToOwned::to_owned)
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`; a beta is `18beta1`.
fn postgres_version(answer: &str) -> Option<&str> {
    let word = answer.split_whitespace().nth(2)?;
    let end = word
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(word.len());
    Some(&word[..end])
}

/// `Redis server v=7.0.15 sha=00000000:0 …`, and the same from Valkey.
fn redis_version(answer: &str) -> Option<&str> {
    answer
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_binaries_say() {
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        assert_eq!(postgres_version(debian), Some("15.18"));
        assert_eq!(
            postgres_version("postgres (PostgreSQL) 18beta1\n"),
            Some("18")
        );
        assert_eq!(
            redis_version("Redis server v=7.0.15 sha=00000000:0 malloc=x"),
            Some("7.0.15")
        );
        assert_eq!(redis_version("Valkey server v=8.0.1 sha=0"), Some("8.0.1"));
        assert_eq!(redis_version("something else"), None);
    }

    #[test]
    fn folders_sort_by_number() {
        assert!(number_in(Path::new("/usr/lib/postgresql/9")) < number_in(Path::new("/x/15")));
        assert_eq!(number_in(Path::new("/opt/homebrew/opt/postgresql@17")), 17);
    }
}
