//! From what was sent to what is submitted: the settings are checked, and every document passes the intake or is
//! refused by name.
//!
//! Pure. Invariant: every document of the body comes out exactly once, and no two carry one name.

use std::{collections::HashSet, sync::Arc, time::Duration};

use axum::http::StatusCode;

use super::{
    Webhooks,
    body::{DocumentBody, SubmissionBody},
    problem::Problem,
    spending::{ModelDefaults, Spending},
};
use crate::{
    flow::{Failure, FailureCode, FailurePolicy, PartialPolicy, Tolerance},
    graph::Ontology,
    notify::Address,
    pipeline::{Adjudicate, Limits, NewDocument, Settings, check_id},
    workflow::{NewBatch, fresh_name, is_name},
};

/// What a batch has that is not told otherwise. **Source:** the command line's defaults.
const CONCURRENCY: u32 = 5;
const MAX_RETRIES: u32 = 2;
const EXTRACTOR: &str = "local";
/// How long a call of a model may take, and how many a unit may need. **Source:** the command line's defaults.
const CALL: Duration = Duration::from_secs(120);
const CALLS_OF_A_UNIT: u32 = 10;

/// A document that goes into the batch, or the reason why not.
pub(super) enum Entry {
    /// It is fit.
    Document(NewDocument),
    /// It is not.
    Refused { name: String, failure: Failure },
}

/// A submission that can be written down.
pub(super) struct Checked {
    pub(super) batch: NewBatch,
    /// Who is told of its end.
    pub(super) notify: Option<Address>,
    pub(super) entries: Vec<Entry>,
}

/// Checks what was sent; `follow`: the documents come by themselves.
///
/// # Errors
/// 422 for what no batch can be opened with; trying the same again does not help.
pub(super) fn check(
    body: SubmissionBody,
    extractors: &[(String, Settings)],
    limits: Limits,
    ontology: &Arc<Ontology>,
    webhooks: &Webhooks,
    models: &ModelDefaults,
    follow: bool,
) -> Result<Checked, Problem> {
    // One that is kept open gets them later.
    if body.documents.is_empty() && body.open != Some(true) && !follow {
        return Err(unfit(
            "documents",
            "there are none: a batch that is not `open` has at least one",
        ));
    }
    let notify = match body.notify {
        None => webhooks.otherwise.clone(),
        Some(_) if !webhooks.signs => {
            return Err(unfit(
                "notify",
                "this server has no secret to sign with: it needs GRAPHMILL_WEBHOOK_SECRET",
            ));
        }
        Some(address) => {
            Some(Address::parse(&address).map_err(|error| unfit("notify", &error.to_string()))?)
        }
    };
    let name = match body.name {
        Some(name) => batch_name(name)?,
        None => fresh_name("batch"),
    };
    let policy = body
        .failure_policy
        .map_or(Ok(FailurePolicy::ContinueOnFailure), |policy| {
            policy.parse().map_err(|_| {
                let known = FailurePolicy::ALL.map(FailurePolicy::as_str);
                unfit("failure_policy", &format!("known are {}", known.join(", ")))
            })
        })?;
    let tolerance = body
        .max_failures
        .map(|text| text.parse::<Tolerance>())
        .transpose()
        .map_err(|_| {
            unfit(
                "max_failures",
                "a number of documents or a share of all (`10`, `5%`)",
            )
        })?;
    let extractor = body.extractor.unwrap_or_else(|| EXTRACTOR.to_owned());
    let Some(&(_, mut settings)) = extractors.iter().find(|(name, _)| *name == extractor) else {
        let names: Vec<&str> = extractors.iter().map(|(name, _)| name.as_str()).collect();
        let known = format!("known are {}", names.join(", "));
        return Err(unfit("extractor", &known));
    };
    if let Some(partial) = body.partial {
        let partial: PartialPolicy = partial.parse().map_err(|_| {
            let known = PartialPolicy::ALL.map(PartialPolicy::as_str);
            unfit("partial", &format!("known are {}", known.join(", ")))
        })?;
        settings.allow_partial = partial == PartialPolicy::Allow;
    }
    settings.adjudicate = adjudication(body.adjudicate, body.adjudicate_most)?;
    if settings.adjudicate.is_some() && body.model.is_none() {
        return Err(unfit("adjudicate", "name the `model` that is to be asked"));
    }
    let spending = Spending {
        model: body.model,
        input: body.price_input,
        cached_input: body.price_cached_input,
        output: body.price_output,
        max_cost: body.max_cost,
        max_tokens: body.max_tokens,
    };
    let model = spending.check(models)?;
    if model.is_some() {
        settings.units.soft_timeout = settings.units.soft_timeout.max(CALL);
        settings.units.hard_timeout = settings.units.hard_timeout.max(CALL * CALLS_OF_A_UNIT);
    }
    let batch = NewBatch {
        name,
        extractor,
        ontology: Arc::clone(ontology),
        settings,
        model,
        concurrency: within("concurrency", body.concurrency, 1, 10_000, CONCURRENCY)?,
        policy,
        max_retries: within("max_retries", body.max_retries, 0, 100, MAX_RETRIES)?,
        tolerance,
        weight: within("weight", body.weight, 1, 1000, 1)?,
        // It stands in the request's head, whatever the body is.
        traceparent: None,
    };
    Ok(Checked {
        batch,
        notify,
        entries: entries(body.documents, limits),
    })
}

/// How somebody is asked about names, if that is wanted.
fn adjudication(wanted: Option<bool>, most: Option<u32>) -> Result<Option<Adjudicate>, Problem> {
    let otherwise = Adjudicate::default();
    match (wanted, most) {
        (Some(true), most) => Ok(Some(Adjudicate {
            most: within("adjudicate_most", most, 1, 10_000, otherwise.most)?,
            ..otherwise
        })),
        (None | Some(false), None) => Ok(None),
        (None | Some(false), Some(_)) => Err(unfit("adjudicate_most", "only with `adjudicate`")),
    }
}

fn unfit(field: &str, why: &str) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        format!("`{field}`: {why}"),
    )
    .with("place", field)
}

fn batch_name(name: String) -> Result<String, Problem> {
    if is_name(&name) {
        Ok(name)
    } else {
        Err(unfit(
            "name",
            "a name has 1 to 200 characters, none of them a control character",
        ))
    }
}

fn within(
    field: &str,
    given: Option<u32>,
    least: u32,
    most: u32,
    otherwise: u32,
) -> Result<u32, Problem> {
    let given = given.unwrap_or(otherwise);
    if (least..=most).contains(&given) {
        Ok(given)
    } else {
        Err(unfit(
            field,
            &format!("{given} is not within {least} to {most}"),
        ))
    }
}

pub(super) fn entries(documents: Vec<DocumentBody>, limits: Limits) -> Vec<Entry> {
    // Names that are made up must not meet one that is still to come.
    let mut names: HashSet<String> = documents
        .iter()
        .map(|document| document.id.clone())
        .collect();
    let mut made_up = |wanted: String| {
        let mut name = wanted.clone();
        let mut number = 2_u32;
        while !names.insert(name.clone()) {
            name = format!("{wanted} ({number})");
            number += 1;
        }
        name
    };
    let mut taken = HashSet::new();
    documents
        .into_iter()
        .enumerate()
        .map(|(index, document)| {
            let document = NewDocument {
                title: document.title,
                source_uri: document.source_uri,
                metadata: document
                    .metadata
                    .unwrap_or_else(|| serde_json::Value::Object(serde_json::Map::new())),
                ..NewDocument::new(document.id, document.text)
            };
            if check_id(&document.id).is_err() {
                let name = made_up(format!("documents[{index}]"));
                return match document.check(&limits) {
                    Err(failure) => Entry::Refused { name, failure },
                    // An id that is no id is refused by the check too.
                    Ok(()) => Entry::Document(document),
                };
            }
            let free = taken.insert(document.id.clone());
            let failure = match document.check(&limits) {
                Ok(()) if free => return Entry::Document(document),
                Ok(()) => Failure::terminal(
                    FailureCode::DuplicateId,
                    format!(
                        "the id `{}` of documents[{index}] is already that of another document: give one of them \
                         another id, or submit them in two batches",
                        document.id
                    ),
                ),
                // What is wrong with it matters more than that its name is taken as well.
                Err(failure) => failure,
            };
            let name = if free {
                document.id
            } else {
                made_up(format!("{} (documents[{index}])", document.id))
            };
            Entry::Refused { name, failure }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(id: &str, text: &str) -> DocumentBody {
        DocumentBody {
            id: id.to_owned(),
            text: text.to_owned(),
            title: None,
            source_uri: None,
            metadata: None,
        }
    }

    #[test]
    fn whoever_wants_names_adjudicated_names_the_model() {
        let checked = |more: &str| {
            let body = format!(r#"{{"documents":[{{"id":"a","text":"b"}}]{more}}}"#);
            let extractors = [("local".to_owned(), Settings::default())];
            let webhooks = Webhooks {
                otherwise: None,
                signs: false,
            };
            check(
                crate::api::body::read(body.as_bytes()).unwrap(),
                &extractors,
                Limits::default(),
                &Arc::new(Ontology::builtin().unwrap()),
                &webhooks,
                &ModelDefaults::default(),
                false,
            )
        };
        let batch = checked(r#","model":"tiny","adjudicate":true,"adjudicate_most":3"#);
        let Ok(Checked { batch, .. }) = batch else {
            panic!("it is refused");
        };
        let wanted = Adjudicate {
            most: 3,
            ..Adjudicate::default()
        };
        assert_eq!(batch.settings.adjudicate, Some(wanted));
        assert_eq!(batch.model.unwrap().0.name, "tiny");
        assert!(batch.settings.units.hard_timeout > CALL);
        for more in [
            r#","adjudicate":true"#,
            r#","adjudicate_most":3"#,
            r#","model":"tiny","adjudicate":true,"adjudicate_most":0"#,
            r#","model":"""#,
        ] {
            assert!(checked(more).is_err(), "{more}");
        }
        let Ok(Checked { batch, .. }) = checked("") else {
            panic!("it is refused");
        };
        assert_eq!(
            (batch.settings.adjudicate, batch.model.is_none()),
            (None, true)
        );
    }

    #[test]
    fn every_document_comes_out_under_a_name_of_its_own() {
        let sent = vec![
            document("documents[2]", "one"),
            document("a", "two"),
            document(" ", "three"),
            document("a", "two"),
            document("b", ""),
            document("b", "four"),
        ];
        let told: Vec<String> = entries(sent, Limits::default())
            .into_iter()
            .map(|entry| match entry {
                Entry::Document(document) => document.id,
                Entry::Refused { name, failure } => format!("{name}: {}", failure.code.as_str()),
            })
            .collect();
        assert_eq!(
            told,
            [
                "documents[2]",
                "a",
                "documents[2] (2): broken_line",
                "a (documents[3]): duplicate_id",
                "b: empty",
                "b (documents[5]): duplicate_id",
            ]
        );
    }
}
