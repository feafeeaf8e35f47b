//! `graphmill link list|show|accept|reject|split`: what people decide about clusters.

use std::{fmt::Write, process::ExitCode};

use clap::{Args, Subcommand};
use graphmill_jobs::{ClusterId, EntityId, LinkId};

use super::{batch::find, error::CliError, output, session::Session};
use crate::{
    config::ServerArgs,
    store::Decision,
    workflow::{self, ClusterReport, LinkChange, LinkEndReport, LinkError, LinkReport},
};

/// Arguments of `link`.
#[derive(Debug, Args)]
pub(super) struct LinkArgs {
    #[command(subcommand)]
    command: LinkCommand,
}

#[derive(Debug, Subcommand)]
enum LinkCommand {
    /// List what may be one thing, the likeliest first, and then what was decided.
    List {
        /// The batch's id or name.
        batch: String,
        /// Links that are listed at most.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        /// Print an array.
        #[arg(long)]
        json: bool,
    },
    /// Show a cluster with its members in all batches, and why each is one.
    Show {
        /// The cluster's id (`cluster_…`); exports and `link list` have it.
        cluster: ClusterId,
        /// Print one object.
        #[arg(long)]
        json: bool,
    },
    /// The two ends are one thing: their clusters become one, now and in every later resolution.
    Accept(Target),
    /// The two ends are not one thing, now and in every later resolution; parts them if they were accepted.
    Reject(Target),
    /// Take members out of a cluster: together they are another thing, now and in every later resolution.
    Split {
        /// The cluster's id (`cluster_…`).
        cluster: ClusterId,
        /// The members' ids (`entity_…`); `link show` lists them.
        #[arg(required = true)]
        entities: Vec<EntityId>,
        /// Print one object.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct Target {
    /// The link's id (`link_…`); `link list` has it.
    id: LinkId,
    /// Print one object.
    #[arg(long)]
    json: bool,
}

pub(super) async fn link(servers: &ServerArgs, args: LinkArgs) -> Result<ExitCode, CliError> {
    let session = Session::open(servers, true).await?;
    let done = work(&session, args.command).await;
    session.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn work(session: &Session, command: LinkCommand) -> Result<(), CliError> {
    let (store, organization) = (&session.store, session.organization);
    match command {
        LinkCommand::List { batch, limit, json } => {
            let id = find(session, &batch).await?;
            let links = workflow::links(store, organization, id, limit).await?;
            output::written(if json {
                output::json(&links)
            } else {
                output::line(&table(&links))
            })
        }
        LinkCommand::Show { cluster, json } => {
            let found = workflow::cluster(store, organization, cluster).await?;
            let found = found.ok_or(LinkError::UnknownCluster(cluster))?;
            output::written(if json {
                output::json(&found)
            } else {
                output::line(&described(&found))
            })
        }
        LinkCommand::Accept(Target { id, json }) => {
            let done = workflow::decide(store, organization, id, Decision::Accepted).await?;
            told(&done, json)
        }
        LinkCommand::Reject(Target { id, json }) => {
            let done = workflow::decide(store, organization, id, Decision::Rejected).await?;
            told(&done, json)
        }
        LinkCommand::Split {
            cluster,
            entities,
            json,
        } => {
            let done = workflow::split(store, organization, cluster, &entities).await?;
            told(&done, json)
        }
    }
}

/// What has changed.
fn told(done: &LinkChange, json: bool) -> Result<(), CliError> {
    if json {
        return output::written(output::json(done));
    }
    let mut text = format!("{} is {}", done.link.id, done.link.status);
    if !done.changed {
        text.push_str(" already: nothing has changed");
    }
    for cluster in &done.clusters {
        // Writing to a string does not fail.
        let _ = write!(text, "\n{}", headed(cluster));
    }
    for gone in &done.gone {
        let _ = write!(text, "\n{gone} is no more");
    }
    output::written(output::line(&text))
}

fn headed(cluster: &ClusterReport) -> String {
    let members = match cluster.members.len() {
        1 => "1 member".to_owned(),
        many => format!("{many} members"),
    };
    let ClusterReport {
        cluster_id,
        name,
        class,
        ..
    } = cluster;
    format!("{cluster_id} {name} ({class}): {members}")
}

fn described(cluster: &ClusterReport) -> String {
    let mut text = headed(cluster);
    for member in &cluster.members {
        let (id, name, document) = (member.entity_id, &member.name, &member.document);
        let _ = write!(text, "\n  {id}  {name}, in {document}");
        if let (Some(with), Some(score), Some(reason)) = (member.with, member.score, &member.reason)
        {
            let _ = write!(text, ": {reason} ({score:.2}) as {with}");
        }
    }
    text
}

/// Links for people, one a line.
fn table(links: &[LinkReport]) -> String {
    if links.is_empty() {
        return "no links: nothing is merely likely, and nothing was decided".to_owned();
    }
    let mut text = format!(
        "{:<37}  {:<8}  {:>5}  {:<10}  ends",
        "link", "status", "score", "reason"
    );
    for link in links {
        let (left, right) = (end(&link.left), end(&link.right));
        let _ = write!(
            text,
            "\n{:<37}  {:<8}  {:>5.2}  {:<10}  {left} ~ {right}",
            link.id.to_string(),
            link.status,
            link.score,
            link.reason
        );
    }
    text
}

fn end(end: &LinkEndReport) -> String {
    match (&end.name, &end.class, &end.document) {
        (Some(name), Some(class), Some(document)) => format!("{name} ({class}, {document})"),
        _ => format!("{} (gone)", end.entity_id),
    }
}
