//! Good answers to graphmill's prompts, found in the prompt itself: the same prompt has the same answer.
//!
//! Knows the blocks of the prompts; must not know ontologies, HTTP or scripts. It is no extractor: it finds enough for
//! a batch to end in a graph.

mod block;
mod classes;
mod mentions;
mod pairs;
mod relations;

use serde_json::{Value, json};

use super::request::Chat;

/// The answer to a request, as a JSON value. `bound` is the schema that the server keeps to.
pub(super) fn answer(chat: &Chat, bound: Option<&Value>) -> Value {
    // A repair asks again in a further message; the data is in an earlier one then.
    let data = |block: &str| {
        let mut users = chat.users.iter();
        let found = users.find(|text| block::find(text, block).is_some());
        found.map_or("", String::as_str)
    };
    match &*chat.task {
        "mentions" => mentions::answer(data("text")),
        "classes" => classes::answer(data("mentions"), &chat.system),
        "relations" => relations::answer(data("entities"), &chat.system),
        "pairs" => pairs::answer(data("pairs")),
        "probe" => {
            let word = bound.and_then(odd_word);
            json!({"answer": word.unwrap_or("yes")})
        }
        _ => json!({"answer": "this task is not known here"}),
    }
}

/// The one word that a probe's schema allows.
fn odd_word(schema: &Value) -> Option<&str> {
    let answer = &schema["properties"]["answer"];
    answer["enum"][0]
        .as_str()
        .or_else(|| answer["const"].as_str())
}
