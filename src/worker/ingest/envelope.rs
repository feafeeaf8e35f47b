//! Reading an envelope. What is in it is read and checked as the body of an HTTP request is, by the same code.
//!
//! Pure. Invariant: no message quotes what was sent.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{IngestSettings, apply::Refused};
use crate::workflow::{
    self, Checked, KEY_CHARACTERS, MOST_ADDED, SubmissionBody, Unfit, WholeRequest, is_key, is_name,
};

/// The version of the envelopes that are read here.
pub(super) const VERSION: u32 = 1;
/// The longest that a receipt is kept, in seconds.
const LONGEST_RECEIPT: u32 = 86_400;

/// What is looked at before it is known who asks.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Head {
    v: Option<Value>,
    api_key: Option<Value>,
}

/// An envelope, as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Body {
    #[serde(rename = "v")]
    _version: u32,
    #[serde(rename = "api_key")]
    _api_key: String,
    key: String,
    traceparent: Option<String>,
    receipt_seconds: Option<u32>,
    submit: Option<SubmissionBody>,
    add: Option<SubmissionBody>,
    seal: Option<SealBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct SealBody {
    name: String,
    documents: Option<u64>,
}

/// The very bytes of what is asked: a key stands for them.
#[derive(Deserialize)]
struct Asked<'e> {
    #[serde(borrow)]
    submit: Option<&'e RawValue>,
    #[serde(borrow)]
    add: Option<&'e RawValue>,
    #[serde(borrow)]
    seal: Option<&'e RawValue>,
}

/// What an envelope asks for.
pub(super) enum What {
    /// A batch with all its documents, sealed unless it says otherwise.
    Submit {
        checked: Checked,
        /// It is kept open.
        open: bool,
    },
    /// Documents for a batch that is kept open, and opened if there is none.
    Add(Checked),
    /// The seal of a batch, once it has so many documents.
    Seal {
        name: String,
        documents: Option<u64>,
    },
}

/// An envelope that was read.
pub(super) struct Read {
    pub(super) what: What,
    pub(super) sent: WholeRequest,
    /// How long its receipt is kept, in seconds.
    pub(super) receipt_seconds: Option<u32>,
}

/// The API key of an envelope that can be read at all.
pub(super) fn api_key(payload: &[u8]) -> Result<String, Refused> {
    let head: Head = workflow::read_body(payload).map_err(refused)?;
    match head.v {
        Some(version) if version == VERSION => {}
        Some(_) | None => {
            return Err(Refused::at(
                "unknown_version",
                "v",
                format!("`v`: this graphmill reads envelopes of version {VERSION}"),
            ));
        }
    }
    match head.api_key {
        Some(Value::String(key)) => Ok(key),
        Some(_) | None => Err(Refused::at(
            "unauthorized",
            "api_key",
            "`api_key`: an API key is needed: a string, `gm_…`".to_owned(),
        )),
    }
}

/// Reads an envelope whose sender may ask.
pub(super) fn read(payload: &[u8], settings: &IngestSettings) -> Result<Read, Refused> {
    let body: Body = workflow::read_body(payload).map_err(refused)?;
    let asked: Asked<'_> = serde_json::from_slice(payload)
        .map_err(|_| Refused::new("unfit", "it can't be read".to_owned()))?;
    if !is_key(&body.key) {
        let why = format!("1 to {KEY_CHARACTERS} visible characters");
        return Err(unfit("key", &why));
    }
    if body
        .receipt_seconds
        .is_some_and(|seconds| seconds > LONGEST_RECEIPT)
    {
        let why = format!("at most {LONGEST_RECEIPT}");
        return Err(unfit("receipt_seconds", &why));
    }
    let (mut what, request, raw) = match (body.submit, body.add, body.seal) {
        (Some(submit), None, None) => {
            let open = submit.open.unwrap_or(false);
            let checked = check(submit, settings, "submit")?;
            (What::Submit { checked, open }, "queue submit", asked.submit)
        }
        (None, Some(add), None) => {
            if add.name.is_none() {
                return Err(unfit("add.name", "the batch that they are added to"));
            }
            if add.open == Some(false) {
                let why = "it is kept open until it is sealed";
                return Err(unfit("add.open", why));
            }
            if add.documents.is_empty() {
                return Err(unfit("add.documents", "there are none"));
            }
            let (most, most_bytes) = MOST_ADDED;
            let bytes: usize = add.documents.iter().map(|one| one.text.len()).sum();
            if add.documents.len() > most || (bytes > most_bytes && add.documents.len() > 1) {
                let mebibytes = most_bytes >> 20;
                let why = format!(
                    "at most {most} documents, and {mebibytes} MiB of texts: send several envelopes"
                );
                return Err(unfit("add.documents", &why));
            }
            let checked = check(add, settings, "add")?;
            (What::Add(checked), "queue add", asked.add)
        }
        (None, None, Some(SealBody { name, documents })) => {
            if !is_name(&name) {
                return Err(unfit("seal.name", "no batch has such a name"));
            }
            (What::Seal { name, documents }, "queue seal", asked.seal)
        }
        _ => {
            return Err(Refused::new(
                "unfit",
                "an envelope has one of `submit`, `add` and `seal`".to_owned(),
            ));
        }
    };
    if let What::Submit { checked, .. } | What::Add(checked) = &mut what {
        checked.batch.traceparent = body.traceparent;
    }
    let raw = raw.map_or("", RawValue::get);
    Ok(Read {
        what,
        sent: WholeRequest::new(body.key, request, raw.as_bytes()),
        receipt_seconds: body.receipt_seconds,
    })
}

fn check(
    body: SubmissionBody,
    settings: &IngestSettings,
    within: &str,
) -> Result<Checked, Refused> {
    workflow::check(
        body,
        &settings.extractors,
        settings.limits,
        &settings.ontology,
        &settings.webhooks,
        &settings.models,
        false,
    )
    .map_err(|unfit| {
        let place = unfit.place.map(|place| format!("{within}.{place}"));
        Refused {
            code: "unfit",
            place,
            message: unfit.detail,
        }
    })
}

fn unfit(place: &str, why: &str) -> Refused {
    Refused::at("unfit", place, format!("`{place}`: {why}"))
}

fn refused(unfit: Unfit) -> Refused {
    Refused {
        code: if unfit.is_no_json {
            "not_json"
        } else {
            "unfit"
        },
        place: unfit.place,
        message: unfit.detail,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{
        graph::Ontology,
        pipeline::{Limits, Settings},
        workflow::{ModelDefaults, Webhooks},
    };

    fn settings() -> IngestSettings {
        IngestSettings {
            extractors: vec![("local".to_owned(), Settings::default())],
            limits: Limits::default(),
            ontology: Arc::new(Ontology::builtin().unwrap()),
            webhooks: Webhooks::default(),
            models: ModelDefaults::default(),
        }
    }

    fn envelope(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut envelope = json!({
            "v": 1, "api_key": "gm_secret", "key": "k",
            "submit": {"documents": [{"id": "a", "text": "secret"}]},
        });
        change(&mut envelope);
        serde_json::to_vec(&envelope).unwrap()
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_without_what_was_sent() {
        type Change = fn(&mut Value);
        let broken: [(Change, &str, &str); 13] = [
            (|e| e["secret field"] = json!(1), "unfit", "…"),
            (
                |e| e["submit"]["nmae"] = json!("secret"),
                "unfit",
                "submit.nmae",
            ),
            (
                |e| e["submit"]["documents"][0]["text"] = json!(["secret"]),
                "unfit",
                "submit.documents[0].text",
            ),
            (
                |e| e["submit"]["documents"] = json!([]),
                "unfit",
                "submit.documents",
            ),
            (
                |e| e["submit"]["extractor"] = json!("secret"),
                "unfit",
                "submit.extractor",
            ),
            (|e| e["key"] = json!(""), "unfit", "key"),
            (|e| e["key"] = json!("secret key"), "unfit", "key"),
            (
                |e| e["receipt_seconds"] = json!(86_401),
                "unfit",
                "receipt_seconds",
            ),
            (|e| e["seal"] = json!({"name": "secret"}), "unfit", ""),
            (
                |e| {
                    e.as_object_mut().unwrap().remove("submit");
                },
                "unfit",
                "",
            ),
            (
                |e| {
                    let s = e["submit"].take();
                    e["add"] = s;
                    e.as_object_mut().unwrap().remove("submit");
                },
                "unfit",
                "add.name",
            ),
            (
                |e| {
                    e.as_object_mut().unwrap().remove("submit");
                    e["seal"] = json!({"name": ""});
                },
                "unfit",
                "seal.name",
            ),
            (
                |e| {
                    e.as_object_mut().unwrap().remove("submit");
                    e["seal"] = json!({"name": "n", "documents": -1});
                },
                "unfit",
                "seal.documents",
            ),
        ];
        for (change, code, place) in broken {
            let envelope = envelope(change);
            let Err(refused) = read(&envelope, &settings()) else {
                panic!("{}", String::from_utf8_lossy(&envelope));
            };
            assert_eq!(refused.code, code, "{refused:?}");
            assert_eq!(
                refused.place.unwrap_or_default(),
                place,
                "{}",
                refused.message
            );
            assert!(!refused.message.contains("secret"), "{}", refused.message);
        }
    }

    #[test]
    fn the_version_is_looked_at_before_anything_that_only_it_could_explain() {
        let read = |change: fn(&mut Value)| api_key(&envelope(change));
        assert_eq!(read(|_| {}).unwrap(), "gm_secret");
        let of_tomorrow: fn(&mut Value) = |e| {
            e["v"] = json!(2);
            e["tomorrow"] = json!(true);
        };
        assert_eq!(read(of_tomorrow).unwrap_err().code, "unknown_version");
        assert_eq!(
            read(|e| e["v"] = json!("1")).unwrap_err().code,
            "unknown_version"
        );
        assert_eq!(
            read(|e| e["api_key"] = json!(7)).unwrap_err().code,
            "unauthorized"
        );
        assert_eq!(api_key(b"{\"v\": 1,").unwrap_err().code, "not_json");
        assert_eq!(api_key(b"[1]").unwrap_err().code, "unfit");
    }

    #[test]
    fn a_key_stands_for_what_is_asked_and_not_for_who_asks() {
        let hash = |change: fn(&mut Value)| {
            let read = read(&envelope(change), &settings()).ok().unwrap();
            read.sent.written().hash.to_vec()
        };
        let first = hash(|_| {});
        assert_eq!(first, hash(|e| e["api_key"] = json!("gm_another")));
        assert_eq!(first, hash(|e| e["traceparent"] = json!("00-1-1-01")));
        assert_ne!(
            first,
            hash(|e| e["submit"]["documents"][0]["text"] = json!("b"))
        );
    }
}
