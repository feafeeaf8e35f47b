//! What the extractor does with answers of every kind, through a way to a model that plays them from a list.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    super::{Answer, CallError, CallRequest, DropReason, Refusal, WaitCause},
    *,
};
use crate::graph::{ClassId, NameLabel, Span};

/// Every object lists all its keys as required and allows no others: what OpenAI's strict mode wants.
pub(super) fn assert_strict(schema: &Value) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let required: Vec<&str> = schema["required"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(required.len(), properties.len(), "{schema}");
        assert!(
            properties
                .keys()
                .all(|key| required.contains(&key.as_str())),
            "{schema}"
        );
        assert_eq!(schema["additionalProperties"], json!(false), "{schema}");
        properties.values().for_each(assert_strict);
    }
    if let Some(items) = schema.get("items") {
        assert_strict(items);
    }
}

const KNOWN: &str = r#"{"form":"json_schema","new_cap":false,"temperature":true}"#;

#[derive(Default)]
struct Played {
    script: Mutex<VecDeque<Result<Vec<u8>, CallError>>>,
    /// Prompt, sample and body of what was asked.
    asked: Mutex<Vec<(String, u32, Value)>>,
    known: Mutex<Option<String>>,
    remembered: AtomicU32,
    dropped: Mutex<Dropped>,
}

#[async_trait]
impl Calls for Played {
    fn model(&self) -> &'static str {
        "tiny"
    }

    async fn call(&self, _: &UnitName, request: &CallRequest) -> Result<Answer, CallError> {
        let body = serde_json::from_slice(&request.body).unwrap();
        let mut asked = self.asked.lock().unwrap();
        asked.push((request.prompt.clone(), request.sample, body));
        let next = self.script.lock().unwrap().pop_front();
        next.expect("nobody asks more than the script has")
            .map(|body| Answer {
                body,
                replayed: false,
            })
    }

    async fn recall(&self) -> Result<Option<String>, CallError> {
        Ok(self.known.lock().unwrap().clone())
    }

    async fn remember(&self, what: &str) -> Result<(), CallError> {
        self.remembered.fetch_add(1, Ordering::SeqCst);
        *self.known.lock().unwrap() = Some(what.to_owned());
        Ok(())
    }

    async fn dropped(&self, _: &UnitName, dropped: &Dropped) -> Result<(), CallError> {
        *self.dropped.lock().unwrap() = dropped.clone();
        Ok(())
    }
}

type Step = Result<Vec<u8>, CallError>;

#[expect(
    clippy::unnecessary_wraps,
    reason = "a step of a script, of which others are errors"
)]
fn ends(content: &str, finish: &str) -> Step {
    let message = json!({"role": "assistant", "content": content});
    let body = json!({"choices": [{"message": message, "finish_reason": finish}]});
    Ok(body.to_string().into_bytes())
}

fn says(content: &str) -> Step {
    ends(content, "stop")
}

fn refuses(why: Refusal) -> Step {
    Err(CallError::Refused {
        why,
        message: "no".to_owned(),
    })
}

fn names(quotes: &[&str]) -> String {
    let items: Vec<Value> = quotes
        .iter()
        .map(|quote| json!({"quote": quote, "label": "PER", "occurrence": null}))
        .collect();
    json!({ "mentions": items }).to_string()
}

/// A way to a model whose form is known, which plays `script`.
fn played(script: Vec<Step>) -> Arc<Played> {
    let played = Played {
        script: Mutex::new(script.into()),
        known: Mutex::new(Some(KNOWN.to_owned())),
        ..Played::default()
    };
    Arc::new(played)
}

fn unit() -> UnitName {
    UnitName {
        document: "d".into(),
        stage: "mentions",
        unit: 0,
    }
}

async fn read(played: &Arc<Played>, text: &str) -> Result<Vec<String>, ExtractError> {
    let text = Text::new(text);
    let chunk = ChunkText {
        text: &text,
        span: Span::new(0, text.chars()),
    };
    let model = Model::default()
        .calling(Arc::clone(played) as Arc<dyn Calls>)
        .unwrap();
    let found = model
        .mentions(&unit(), chunk, &Ontology::builtin().unwrap())
        .await?;
    assert!(
        played.script.lock().unwrap().is_empty(),
        "more should have been asked"
    );
    Ok(found
        .iter()
        .map(|mention| text.slice(mention.span).to_owned())
        .collect())
}

fn asked(played: &Played) -> Vec<(String, u32)> {
    let asked = played.asked.lock().unwrap();
    asked
        .iter()
        .map(|(prompt, sample, _)| (prompt.clone(), *sample))
        .collect()
}

fn form(played: &Played) -> Value {
    serde_json::from_str(played.known.lock().unwrap().as_deref().unwrap()).unwrap()
}

#[tokio::test]
async fn the_form_is_found_once_and_remembered() {
    let word = r#"{"word":"quoll_thimble_91"}"#;
    let none = r#"{"mentions":[]}"#;
    let blue = r#"{"word":"blue"}"#;
    for (probes, form_found) in [
        (vec![says(word)], "json_schema"),
        (
            vec![refuses(Refusal::Unsupported), says(word)],
            "object_with_schema",
        ),
        (vec![says(blue), says(blue)], "object"),
        (
            vec![says("Blue."), refuses(Refusal::Request), says(blue)],
            "object",
        ),
        (vec![says("Blue."), says("Blue."), says("Blue.")], "prompt"),
        (
            vec![
                refuses(Refusal::OutputCap),
                refuses(Refusal::Temperature),
                says(word),
            ],
            "json_schema",
        ),
    ] {
        let count = probes.len();
        let adapts = matches!(
            probes[0],
            Err(CallError::Refused {
                why: Refusal::OutputCap,
                ..
            })
        );
        let played = played(probes.into_iter().chain([says(none), says(none)]).collect());
        *played.known.lock().unwrap() = None;
        let text = Text::new("Nobody.");
        let chunk = ChunkText {
            text: &text,
            span: Span::new(0, 7),
        };
        let ontology = Ontology::builtin().unwrap();
        // Two documents: the second way recalls what the first remembered.
        for _ in 0..2 {
            let model = Model::default()
                .calling(Arc::clone(&played) as Arc<dyn Calls>)
                .unwrap();
            model.mentions(&unit(), chunk, &ontology).await.unwrap();
        }
        assert_eq!(form(&played)["form"], form_found);
        assert_eq!(form(&played)["new_cap"], adapts);
        assert_eq!(form(&played)["temperature"], !adapts);
        assert_eq!(played.remembered.load(Ordering::SeqCst), 1);
        assert_eq!(asked(&played).len(), count + 2);
    }
}

#[tokio::test]
async fn nothing_is_remembered_of_a_server_that_never_answered() {
    let played = played((0..4).map(|_| refuses(Refusal::Request)).collect());
    *played.known.lock().unwrap() = None;
    assert!(matches!(
        read(&played, "Ada.").await,
        Err(ExtractError::Terminal(_))
    ));
    assert_eq!(*played.known.lock().unwrap(), None);
    // A wrong address is told at once.
    played
        .script
        .lock()
        .unwrap()
        .push_back(refuses(Refusal::NotFound));
    assert!(matches!(
        read(&played, "Ada.").await,
        Err(ExtractError::Terminal(_))
    ));
    assert_eq!(asked(&played).len(), 5);
}

#[tokio::test]
async fn a_server_that_has_changed_is_understood_anew() {
    let played = played(vec![
        refuses(Refusal::OutputCap),
        refuses(Refusal::Unsupported),
        says(&names(&["Ada"])),
    ]);
    assert_eq!(read(&played, "Ada came.").await.unwrap(), ["Ada"]);
    assert_eq!(form(&played)["form"], "object_with_schema");
    assert_eq!(form(&played)["new_cap"], true);
}

#[tokio::test]
async fn an_unusable_answer_is_told_why_then_asked_anew_and_then_given_up() {
    let script = || vec![says("I can't."), says("{\"mentions\":[{\"quo"), says("[]")];
    let gave_up = played(script());
    let error = read(&gave_up, "Ada came.").await.unwrap_err();
    assert!(matches!(error, ExtractError::Terminal(_)), "{error:?}");
    assert_eq!(
        asked(&gave_up),
        [
            ("mentions@1".to_owned(), 0),
            ("mentions@1".to_owned(), 0),
            ("mentions@1".to_owned(), 1)
        ]
    );
    let seen = gave_up.asked.lock().unwrap().clone();
    let user = |index: usize| seen[index].2["messages"][1]["content"].as_str().unwrap();
    assert!(user(1).starts_with(user(0)) && user(1).contains("no JSON object with the list"));
    assert_eq!(user(2), user(0));
    assert_ne!(seen[2].2["temperature"], seen[0].2["temperature"]);

    let mut script = script();
    script[2] = says(&names(&["Ada"]));
    assert_eq!(read(&played(script), "Ada came.").await.unwrap(), ["Ada"]);
}

#[tokio::test]
async fn an_item_of_another_form_is_left_out() {
    let played = played(vec![says(
        r#"{"mentions":[{"quote":"Ada","label":"PER"},{"name":"Bo"},{"quote":"Cy","label":"PER"},{"quote":"#,
    )]);
    assert_eq!(read(&played, "Ada and Bo.").await.unwrap(), ["Ada"]);
    let dropped = played.dropped.lock().unwrap();
    assert_eq!(
        dropped.iter().collect::<Vec<_>>(),
        [(DropReason::Malformed, 2), (DropReason::Ungrounded, 1)]
    );
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_kept_and_its_text_is_split() {
    let text = "Ada and Bo came. Cy and Di left.";
    let played = played(vec![
        ends(
            r#"{"mentions":[{"quote":"Ada","label":"PER","occurrence":null},{"quote":"B"#,
            "length",
        ),
        says(&names(&["Bo"])),
        says(&names(&["Cy", "Di"])),
    ]);
    assert_eq!(
        read(&played, text).await.unwrap(),
        ["Ada", "Bo", "Cy", "Di"]
    );
    assert!(played.dropped.lock().unwrap().is_empty());
    let seen = played.asked.lock().unwrap();
    let user = |index: usize| {
        seen[index].2["messages"][1]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(user(1), "<text>\nAda and Bo came. \n</text>");
    assert_eq!(user(2), "<text>\nCy and Di left.\n</text>");
}

#[tokio::test]
async fn splitting_comes_to_an_end() {
    let cut = || ends(r#"{"mentions":["#, "length");
    // One sentence that is too short to split.
    let short = played(vec![cut()]);
    assert!(read(&short, "Ada came.").await.unwrap().is_empty());
    assert_eq!(short.dropped.lock().unwrap().of(DropReason::CutOff), 1);
    // Eight pieces at most, however long the text is.
    let played = played((0..15).map(|_| cut()).collect());
    assert!(
        read(&played, &"Ada came here. ".repeat(200))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(played.dropped.lock().unwrap().of(DropReason::CutOff), 8);
}

#[tokio::test]
async fn a_text_that_is_too_long_is_split_as_well() {
    let overflows = || refuses(Refusal::ContextOverflow);
    let halved = played(vec![
        overflows(),
        says(&names(&["Ada"])),
        says(&names(&["Bo"])),
    ]);
    assert_eq!(
        read(&halved, "Ada came. Bo left.").await.unwrap(),
        ["Ada", "Bo"]
    );
    let whole = played(vec![overflows()]);
    assert!(matches!(
        read(&whole, "Ada came.").await,
        Err(ExtractError::Terminal(_))
    ));
}

#[tokio::test]
async fn a_refusal_is_terminal_and_says_so() {
    let error = read(&played(vec![ends("", "content_filter")]), "Ada.")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ExtractError::Terminal(why) if why.contains("refuses")),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_is_no_try_stays_none() {
    let wait = CallError::Wait {
        reason: "limit".to_owned(),
        wait: Duration::from_secs(3),
        cause: WaitCause::Breaker,
    };
    let error = read(&played(vec![Err(wait)]), "Ada.").await.unwrap_err();
    assert!(
        matches!(error, ExtractError::Wait { wait, cause: WaitCause::Breaker, .. } if wait.as_secs() == 3),
        "{error:?}"
    );
    let pause = CallError::Pause {
        reason: "key".to_owned(),
    };
    let error = read(&played(vec![Err(pause)]), "Ada.").await.unwrap_err();
    assert!(matches!(error, ExtractError::Pause { .. }), "{error:?}");
    let failed = CallError::Transient("503".to_owned());
    let error = read(&played(vec![Err(failed)]), "Ada.").await.unwrap_err();
    assert!(matches!(error, ExtractError::Transient(_)), "{error:?}");
    let text = Text::new("Ada.");
    let chunk = ChunkText {
        text: &text,
        span: Span::new(0, 4),
    };
    let unbound = Model::default()
        .mentions(&unit(), chunk, &Ontology::builtin().unwrap())
        .await;
    assert!(matches!(unbound, Err(ExtractError::Pause { .. })));
}

#[tokio::test]
async fn a_group_whose_answer_is_cut_off_is_asked_for_the_rest() {
    let text = Text::new("Ada Bo Cy Di");
    let ontology = Ontology::builtin().unwrap();
    let group: Vec<Mention> = [(0, 3), (4, 6), (7, 9), (10, 12)]
        .map(|(start, end)| Mention {
            span: Span::new(start, end),
            label: Some(NameLabel::Per),
            value: None,
            confidence: 0.9,
        })
        .to_vec();
    let person = |number: u32| format!(r#"{{"mention":{number},"class":"person"}}"#);
    let list = |items: &[String]| format!(r#"{{"classes":[{}]}}"#, items.join(","));
    let played = played(vec![
        ends(&format!(r#"{{"classes":[{},{{"men"#, person(1)), "length"),
        says(&list(&[person(1)])),
        says(&list(&[person(2)])),
    ]);
    let model = Model::default()
        .calling(Arc::clone(&played) as Arc<dyn Calls>)
        .unwrap();
    let types = model
        .classify(&unit(), &text, &group, &ontology)
        .await
        .unwrap();
    let given: Vec<u32> = types.iter().map(|given| given.span.start).collect();
    // 1, then the rest (2 | 3, 4), of which the model says nothing about 3.
    assert_eq!(given, [0, 4, 10]);
    assert_eq!(played.dropped.lock().unwrap().of(DropReason::NoClass), 1);
    let seen = played.asked.lock().unwrap();
    let user = seen[1].2["messages"][1]["content"].as_str().unwrap();
    assert!(
        user.contains("1. \"Bo\" [PER] in: …Ada Bo Cy Di…") && !user.contains("2. "),
        "{user}"
    );
    assert!(user.starts_with("<classes>\n- person: "), "{user}");
}

#[tokio::test]
async fn relations_are_asked_only_where_they_can_be() {
    let text = Text::new("Ada works for Siemens in Munich.");
    let ontology = Ontology::builtin().unwrap();
    let mention = |start, end, class: &str| TypedMention {
        span: Span::new(start, end),
        label: None,
        value: None,
        class: ClassId::new(class),
        confidence: 0.9,
    };
    let chunk = ChunkText {
        text: &text,
        span: Span::new(0, text.chars()),
    };
    let played = played(vec![says(
        r#"{"relations":[{"subject":1,"predicate":"works_for","object":2,"quote":"Ada works for Siemens"},
        {"subject":2,"predicate":"based_in","object":1,"quote":"Siemens in Munich"}]}"#,
    )]);
    let model = Model::default()
        .calling(Arc::clone(&played) as Arc<dyn Calls>)
        .unwrap();
    let mentions = [
        mention(0, 3, "person"),
        mention(14, 21, "organization"),
        mention(25, 31, "location"),
    ];
    let found = model
        .relations(&unit(), chunk, &mentions, &ontology)
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].evidence, Span::new(0, 21));
    assert_eq!(
        (found[0].subject, found[0].object),
        (Span::new(0, 3), Span::new(14, 21))
    );
    assert_eq!(
        played.dropped.lock().unwrap().of(DropReason::DomainOrRange),
        1
    );
    // Two dates state nothing: no call.
    let dates = [mention(0, 3, "date"), mention(14, 21, "date")];
    assert!(
        model
            .relations(&unit(), chunk, &dates, &ontology)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(asked(&played).len(), 1);
}
