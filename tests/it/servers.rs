//! The private servers, with real processes: boot, crash, attach, hand-over, and what they say when they can't.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;

use graphmill::{
    servers::{Server, Servers, ServersError, Settings},
    store::{PoolSettings, Store},
};
use graphmill_jobs::OrganizationId;
use redis::AsyncCommands;
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, Executor, PgConnection, PgPool, Row, postgres::PgPoolOptions};

use crate::support::{self, Database, Keeper, Redis, is_running, settings, template, wait_for};

/// Not a test of its own: the other process of the tests below.
#[test]
#[ignore = "runs as a child process of other tests"]
fn keeper() {
    support::keep();
}

/// A pool that rides through a restart.
fn pool(servers: &Servers) -> PgPool {
    PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(Duration::from_secs(30))
        .connect_lazy(servers.database_url().unwrap())
        .unwrap()
}

async fn redis_of(servers: &Servers) -> redis::aio::MultiplexedConnection {
    redis::Client::open(servers.redis_url().unwrap())
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap()
}

/// Retries until a fresh connection to Redis answers.
async fn redis_again(servers: &Servers) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(servers.redis_url().unwrap()).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Ok(mut connection) = client.get_multiplexed_async_connection().await
            && redis::cmd("PING")
                .query_async::<String>(&mut connection)
                .await
                .is_ok()
        {
            return connection;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "Redis did not come back"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Writes something to both servers.
async fn write(servers: &Servers) {
    let pool = pool(servers);
    pool.execute("create table note (line text); insert into note values ('kept')")
        .await
        .unwrap();
    pool.close().await;
    redis_of(servers)
        .await
        .set::<_, _, ()>("note", "kept")
        .await
        .unwrap();
}

/// Reads it back, waiting for the servers if they are just coming back.
async fn assert_kept(servers: &Servers) {
    let begin = std::time::Instant::now();
    let pool = pool(servers);
    let row = loop {
        // An old connection may be cut in the middle of the answer.
        match pool.fetch_one("select line from note").await {
            Ok(row) => break row,
            Err(error) if begin.elapsed() > Duration::from_secs(30) => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert_eq!(row.get::<String, _>(0), "kept");
    pool.close().await;
    let note: String = redis_again(servers).await.get("note").await.unwrap();
    assert_eq!(note, "kept");
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_fresh_folder_boots_with_the_database() {
    let servers = Servers::start(settings("fresh")).unwrap();
    assert!(servers.owner());
    assert!(servers.versions().postgres.is_some() && servers.versions().redis.is_some());
    let mut connection = PgConnection::connect(servers.database_url().unwrap())
        .await
        .unwrap();
    let row = connection
        .fetch_one("select current_database()::text, upper('ä')")
        .await
        .unwrap();
    assert_eq!((row.get(0), row.get(1)), ("graphmill", "Ä"));
    let mut redis = redis_of(&servers).await;
    assert_eq!(
        redis::cmd("PING")
            .query_async::<String>(&mut redis)
            .await
            .unwrap(),
        "PONG"
    );

    let pids = [Server::Postgres, Server::Redis].map(|server| servers.pid(server).unwrap());
    drop(servers);
    assert!(
        !pids.into_iter().any(is_running),
        "stop waits for the servers' end"
    );
}

#[tokio::test]
async fn data_survive_a_stop_and_a_start() {
    let settings = settings("data survive ü");
    let servers = Servers::start(settings.clone()).unwrap();
    write(&servers).await;
    servers.stop();
    let servers = Servers::start(settings).unwrap();
    assert_kept(&servers).await;
}

#[tokio::test]
async fn a_killed_server_comes_back_with_its_data() {
    let servers = Servers::start(settings("killed")).unwrap();
    write(&servers).await;
    for server in [Server::Postgres, Server::Redis, Server::Postgres] {
        let pid = servers.pid(server).unwrap();
        kill(pid);
        wait_for("a new process", || {
            servers.pid(server).filter(|&new| new != pid)
        });
        assert_kept(&servers).await;
    }
}

#[tokio::test]
async fn a_killed_owner_leaves_no_server() {
    let settings = settings("orphans");
    let keeper = Keeper::start(&settings.dir);
    assert!(keeper.owner);
    let pids = keeper.servers.clone();
    assert_eq!(pids.len(), 2);
    keeper.kill();
    wait_for("the end of the servers", || {
        (!pids.iter().any(|&pid| is_running(pid))).then_some(())
    });
}

/// The next owner starts on what the killed one left, at once, and waits for the orphans by itself.
#[tokio::test]
async fn a_killed_owner_is_succeeded_at_once() {
    let settings = settings("succession");
    let keeper = Keeper::start(&settings.dir);
    let attached = Servers::start(settings.clone()).unwrap();
    write(&attached).await;
    drop(attached);
    keeper.kill();
    let servers = Servers::start(settings).unwrap();
    assert!(servers.owner());
    assert_kept(&servers).await;
}

#[tokio::test]
async fn a_second_process_attaches_and_leaves_without_a_trace() {
    let settings = settings("attach");
    let servers = Servers::start(settings.clone()).unwrap();
    write(&servers).await;
    let postgres = servers.pid(Server::Postgres);
    let keeper = Keeper::start(&settings.dir);
    assert!(!keeper.owner && keeper.servers.is_empty());
    keeper.end();
    assert_eq!(servers.pid(Server::Postgres), postgres);
    assert_kept(&servers).await;
}

#[tokio::test]
async fn an_attached_process_takes_over_from_an_owner_that_ends() {
    let settings = settings("end");
    let owner = Keeper::start(&settings.dir);
    take_over(&settings, || owner.end()).await;
}

#[tokio::test]
async fn an_attached_process_takes_over_from_an_owner_that_is_killed() {
    let settings = settings("kill");
    let owner = Keeper::start(&settings.dir);
    take_over(&settings, || owner.kill()).await;
}

/// A command that is over in a moment must not come before one that stays: the next owner would be sought at once.
#[test]
fn who_waits_for_the_owners_end_goes_before_who_comes() {
    let settings = settings("line");
    let owner = Keeper::start(&settings.dir);
    let mut waits = Keeper::start(&settings.dir);
    owner.kill();
    let comes = Keeper::start(&settings.dir);
    waits.ask();
    assert!(waits.owner && !comes.owner);
}

async fn take_over(settings: &Settings, end_owner: impl FnOnce()) {
    let servers = Servers::start(settings.clone()).unwrap();
    assert!(!servers.owner() && servers.pid(Server::Redis).is_none());
    write(&servers).await;
    let mut third = Keeper::start(&settings.dir);
    assert!(!third.owner);
    end_owner();
    wait_for("a new owner", || {
        third.ask();
        (servers.owner() || third.owner).then_some(())
    });
    assert!(servers.owner() != third.owner, "one owner, not two");
    assert_kept(&servers).await;
    // Whichever it was: the other one takes over again.
    if third.owner {
        third.end();
        wait_for("the next owner", || servers.owner().then_some(()));
        assert_kept(&servers).await;
    }
}

#[test]
fn missing_binaries_are_one_line_with_the_remedy() {
    let dir = support::folder("missing").join("not-made");
    let settings = Settings {
        pg_bin: Some("/nonexistent".into()),
        redis_server: Some("/nonexistent/redis-server".into()),
        ..Settings::new(&dir)
    };
    let message = |settings| Servers::start(settings).unwrap_err().to_string();
    assert_eq!(
        message(settings.clone()),
        "no Postgres/Redis found: set DATABASE_URL and REDIS_URL, or run ./do setup \
         (apt-get install -y --no-install-recommends postgresql redis-server)"
    );
    let redis_only = Settings {
        postgres: false,
        ..settings
    };
    assert!(message(redis_only).starts_with("no Redis found: "));
    assert!(
        !dir.exists(),
        "nothing is written before the binaries are found"
    );
}

#[tokio::test]
async fn the_lock_file_of_a_dead_server_does_not_stop_a_start() {
    let settings = settings("stale");
    let servers = Servers::start(settings.clone()).unwrap();
    write(&servers).await;
    let dir = servers.dir().to_owned();
    let lock_files = [
        dir.join("pg/postmaster.pid"),
        dir.join("run/.s.PGSQL.5432.lock"),
    ];
    let texts = lock_files
        .clone()
        .map(|file| fs::read_to_string(file).unwrap());
    servers.stop();

    // The dead server's pid now belongs to a living stranger of Postgres' user: a `sleep` with its user id.
    let mut command = Command::new("sleep");
    command.arg("600").stdin(Stdio::null());
    if rustix::process::geteuid().is_root() {
        use std::os::unix::{fs::MetadataExt, process::CommandExt};
        command.uid(fs::metadata(dir.join("pg")).unwrap().uid());
    }
    let mut stranger = command.spawn().unwrap();
    for (file, text) in lock_files.iter().zip(texts) {
        let (_, rest) = text.split_once('\n').unwrap();
        fs::write(file, format!("{}\n{rest}", stranger.id())).unwrap();
    }
    let servers = Servers::start(settings);
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_kept(&servers.unwrap()).await;
}

/// Whoever only asks does not try again: connections that lay idle over a restart are not given to him.
#[tokio::test]
async fn connections_that_lay_idle_over_a_restart_are_made_anew() {
    let servers = Servers::start(settings("idle")).unwrap();
    let url = servers.database_url().unwrap();
    graphmill::store::migrate(url).await.unwrap();
    let store = Store::connect(url, &PoolSettings::default()).await.unwrap();
    let open = || {
        let eight = (0..8).map(|_| store.app(OrganizationId::DEFAULT));
        futures_util::future::try_join_all(eight)
    };
    drop(open().await.unwrap());
    kill(servers.pid(Server::Postgres).unwrap());
    tokio::time::sleep(Duration::from_millis(1100)).await;
    drop(open().await.unwrap());
}

/// What a kill in the middle of making a cluster leaves is thrown away.
#[test]
fn half_a_cluster_is_made_anew() {
    let settings = Settings {
        redis: false,
        ..settings("half")
    };
    fs::create_dir_all(settings.dir.join("pg.new/base")).unwrap();
    fs::write(settings.dir.join("pg.new/PG_VERSION"), "15\n").unwrap();
    let servers = Servers::start(settings).unwrap();
    assert!(servers.dir().join("pg/global").is_dir() && !servers.dir().join("pg.new").exists());
}

/// Killed while it makes the cluster, while it makes the database, and as soon as both are there.
#[tokio::test]
async fn a_kill_in_the_first_boot_is_made_good_by_the_next() {
    for moment in [
        "pg.new/PG_VERSION",
        "pg.new/base/5",
        "pg.new/base/16384",
        "pg",
    ] {
        let settings = settings(&moment.replace('/', "-"));
        let keeper = Keeper::begin(&settings.dir);
        let (there, whole) = (settings.dir.join(moment), settings.dir.join("pg"));
        wait_for("the moment", || {
            (there.exists() || whole.exists()).then_some(())
        });
        keeper.kill();
        let servers = Servers::start(settings).unwrap();
        let mut connection = PgConnection::connect(servers.database_url().unwrap())
            .await
            .unwrap();
        connection
            .execute("create table note (line text)")
            .await
            .unwrap();
    }
}

/// A server that was asked to end while it started may have missed it: what holds the folder of a dead owner is ended.
/// Whoever only reads the folder isn't.
#[test]
fn a_server_that_outlives_its_owner_is_ended() {
    let settings = Settings {
        postgres: false,
        ..settings("outlived")
    };
    fs::create_dir_all(&settings.dir).unwrap();
    let lock = fs::File::create(settings.dir.join("lock")).unwrap();
    lock.lock().unwrap();
    let sleeper = |input: fs::File| Command::new("sleep").arg("600").stdin(input).spawn();
    let mut server = sleeper(lock).unwrap();
    let mut reader = sleeper(fs::File::open(settings.dir.join("lock")).unwrap()).unwrap();
    let started = Servers::start(settings);
    let (ended, spared) = (server.try_wait().unwrap(), reader.try_wait().unwrap());
    for child in [&mut server, &mut reader] {
        let _ = child.kill();
        child.wait().unwrap();
    }
    started.unwrap();
    assert!(ended.is_some(), "it holds the folder of a dead owner");
    assert!(spared.is_none(), "it holds nothing");
}

/// Nobody but the owner of the folder above may enter it, as with a home folder: root's Postgres still has to.
#[tokio::test]
async fn a_folder_in_a_private_home_works() {
    let home = support::folder("home");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    let asked = home.join("data");
    let settings = Settings {
        dir: asked.clone(),
        ..settings("unused")
    };
    let servers = Servers::start(settings.clone()).unwrap();
    write(&servers).await;
    let postgres = servers.pid(Server::Postgres).unwrap();
    kill(postgres);
    assert_kept(&servers).await;
    let dir = servers.dir().to_owned();
    servers.stop();
    assert_kept(&Servers::start(settings).unwrap()).await;
    if dir != asked {
        assert!(dir.starts_with("/var/lib/graphmill"), "{}", dir.display());
        fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn a_cluster_of_another_major_version_stays_untouched() {
    let settings = Settings {
        redis: false,
        ..settings("major")
    };
    fs::create_dir_all(settings.dir.join("pg")).unwrap();
    fs::write(settings.dir.join("pg/PG_VERSION"), "9\n").unwrap();
    let error = Servers::start(settings).unwrap_err();
    assert!(
        matches!(error, ServersError::OtherMajor { major: 9, .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("install postgresql-9"),
        "{error}"
    );
}

#[test]
fn an_owner_that_runs_less_is_named() {
    let settings = settings("less");
    let owner = Servers::start(Settings {
        postgres: false,
        ..settings.clone()
    })
    .unwrap();
    let error = Servers::start(settings).unwrap_err();
    assert!(
        matches!(
            error,
            ServersError::OwnerRunsLess {
                server: "postgres",
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains(&std::process::id().to_string()),
        "{error}"
    );
    drop(owner);
}

#[tokio::test]
async fn a_folder_with_a_long_path_works() {
    let settings = settings(&"long/".repeat(25));
    let servers = Servers::start(settings).unwrap();
    assert!(
        servers
            .redis_url()
            .unwrap()
            .starts_with("redis+unix:///tmp/graphmill-")
    );
    write(&servers).await;
    let run = servers.redis_url().unwrap()["redis+unix://".len()..].to_owned();
    servers.stop();
    fs::remove_dir_all(std::path::Path::new(&run).parent().unwrap()).unwrap();
}

#[test]
fn a_server_that_ends_while_starting_shows_its_log() {
    let settings = Settings {
        redis: false,
        ..settings("broken")
    };
    Servers::start(settings.clone()).unwrap().stop();
    fs::write(
        settings.dir.join("pg/postgresql.conf"),
        "no_such_setting = 1\n",
    )
    .unwrap();
    let error = Servers::start(settings).unwrap_err();
    assert!(
        matches!(
            error,
            ServersError::Died {
                server: "postgres",
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

#[test]
fn a_link_to_the_folder_is_the_same_folder() {
    let settings = Settings {
        postgres: false,
        ..settings("linked")
    };
    let link = settings.dir.with_file_name("link");
    symlink(&settings.dir, &link).unwrap();
    let owner = Servers::start(settings.clone()).unwrap();
    let attached = Servers::start(Settings {
        dir: link,
        ..settings
    })
    .unwrap();
    assert!(owner.owner() && !attached.owner());
    assert_eq!(owner.redis_url(), attached.redis_url());
}

#[tokio::test]
async fn every_test_has_a_database_and_a_redis_of_its_own() {
    for _ in 0..2 {
        let template = template().await;
        let (database, empty) = (Database::clone_of(template).await, Database::create().await);
        let mut connection = PgConnection::connect(database.url()).await.unwrap();
        connection
            .execute(
                "insert into organization (id, name) values (gen_random_uuid(), 'written once')",
            )
            .await
            .unwrap();
        let row = connection
            .fetch_one("select count(*) from organization where name = 'written once'")
            .await
            .unwrap();
        assert_eq!(row.get::<i64, _>(0), 1);
        let mut connection = PgConnection::connect(empty.url()).await.unwrap();
        connection
            .execute("create table organization (id int)")
            .await
            .unwrap();
        drop(connection);
    }
    let redis = [Redis::start(), Redis::start()];
    assert_ne!(redis[0].url(), redis[1].url());
}
