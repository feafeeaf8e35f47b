//! Whether two names are of one thing, as a model says it: several pairs in one question.
//!
//! Knows pairs and nothing of clusters. What is not answered, or not in a form that can be read, is left unsure: no
//! answer is better than an invented one.

use serde_json::Value;

use super::{
    super::{DropReason, Dropped, ExtractError, UnitName},
    ask::{Door, Reply, Task},
    classes::number,
    prompt::{self, Prompt},
};
use crate::graph::{DoubtfulPair, Sameness};

/// The question about pairs.
pub(super) fn task<'a>(prompt: Prompt<'a>, pairs: &[DoubtfulPair]) -> Task<'a> {
    Task {
        prompt,
        system: prompt.text(),
        user: prompt::numbered_pairs(pairs),
        schema: r#"{"type":"object","properties":{"pairs":{"type":"array","items":{"type":"object","properties":{"pair":{"type":"integer"},"verdict":{"type":"string","enum":["same","different","unsure"]}},"required":["pair","verdict"],"additionalProperties":false}}},"required":["pairs"],"additionalProperties":false}"#.to_owned(),
        list: "pairs",
        is_item: |value| number(value, "pair").is_some() && verdict(value).is_some(),
        item: "an object with \"pair\" (a number of the list) and \"verdict\" (\"same\", \"different\" or \"unsure\")",
    }
}

fn verdict(item: &Value) -> Option<Sameness> {
    let said = item.get("verdict")?.as_str()?.trim();
    [
        ("same", Sameness::Same),
        ("different", Sameness::Different),
        ("unsure", Sameness::Unsure),
    ]
    .into_iter()
    .find(|(word, _)| word.eq_ignore_ascii_case(said))
    .map(|(_, verdict)| verdict)
}

/// A verdict for each of `pairs`, in their order.
pub(super) async fn adjudicate(
    door: &Door,
    unit: &UnitName,
    pairs: &[DoubtfulPair],
    dropped: &mut Dropped,
) -> Result<Vec<Sameness>, ExtractError> {
    // A recipe's own prompt is of another stage.
    let prompt = prompt::PAIRS;
    let mut verdicts = vec![Sameness::Unsure; pairs.len()];
    let mut open = vec![(0, pairs.len())];
    while let Some((start, end)) = open.pop() {
        let (range, middle) = (start..end, usize::midpoint(start, end));
        let (items, malformed, cut_off) =
            match door.ask(unit, &task(prompt, &pairs[range.clone()])).await? {
                Reply::Items {
                    items,
                    malformed,
                    cut_off,
                } => (items, malformed, cut_off),
                Reply::TooLong(message) => {
                    if range.len() < 2 {
                        return Err(ExtractError::Terminal(message));
                    }
                    open.extend([(middle, end), (start, middle)]);
                    continue;
                }
            };
        let answered = answers(&items, &mut verdicts[range.clone()], dropped);
        if cut_off && answered == 0 && range.len() > 1 {
            open.extend([(middle, end), (start, middle)]);
            continue;
        }
        dropped.add(DropReason::Malformed, malformed);
        if cut_off && answered < range.len() {
            let missing = u32::try_from(range.len() - answered).unwrap_or(u32::MAX);
            dropped.add(DropReason::CutOff, missing);
        }
    }
    Ok(verdicts)
}

/// Writes down what `items` say of `verdicts`; how many they speak of.
fn answers(items: &[Value], verdicts: &mut [Sameness], dropped: &mut Dropped) -> usize {
    let mut answered = vec![false; verdicts.len()];
    for item in items {
        let index = number(item, "pair").and_then(|number| number.checked_sub(1));
        let place = index.and_then(|index| Some((index, *answered.get(index)?)));
        let (Some((index, false)), Some(said)) = (place, verdict(item)) else {
            dropped.count(DropReason::UnknownEnd);
            continue;
        };
        answered[index] = true;
        verdicts[index] = said;
    }
    answered.into_iter().filter(|answered| *answered).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::graph::Described;

    fn pair(left: &str, right: &str) -> DoubtfulPair {
        let side = |name: &str| Described {
            name: name.to_owned(),
            class: "person".to_owned(),
            also: vec!["Al \"Ace\" </pairs>".to_owned()],
            contexts: vec!["One\nline of </PAIRS> it.".to_owned()],
        };
        DoubtfulPair::new(side(left), side(right))
    }

    #[test]
    fn a_question_has_every_pair_and_no_tag_of_the_texts() {
        let task = task(prompt::PAIRS, &[pair("J. Smith", "John Smith")]);
        let wanted = concat!(
            "<pairs>\n1.\n",
            "  A: \"J. Smith\" [person]; also \"Al 'Ace' ‹/pairs>\"\n     - One line of ‹/PAIRS> it.\n",
            "  B: \"John Smith\" [person]; also \"Al 'Ace' ‹/pairs>\"\n     - One line of ‹/PAIRS> it.\n",
            "</pairs>"
        );
        assert_eq!(task.user, wanted);
        super::super::tests::assert_strict(&serde_json::from_str(&task.schema).unwrap());
        assert_eq!(task.prompt.id(), "pairs@1");
    }

    #[test]
    fn only_the_first_answer_for_a_pair_counts() {
        let (mut verdicts, mut dropped) = ([Sameness::Unsure; 3], Dropped::default());
        let items = [
            json!({"pair": "2", "verdict": " Same "}),
            json!({"pair": 2, "verdict": "different"}),
            json!({"pair": 0, "verdict": "same"}),
            json!({"pair": 4, "verdict": "same"}),
            json!({"pair": 3, "verdict": "different"}),
        ];
        assert_eq!(answers(&items, &mut verdicts, &mut dropped), 2);
        assert_eq!(
            verdicts,
            [Sameness::Unsure, Sameness::Same, Sameness::Different]
        );
        assert_eq!(dropped.of(DropReason::UnknownEnd), 3);
    }
}
