//! What is a value, what it is worth, and what is none.

use proptest::prelude::*;

use super::*;
use crate::graph::NameLabel;

/// The values of a text, each as `words = normal form`.
fn read(text: &str) -> Vec<String> {
    values(text, 0..text.len())
        .into_iter()
        .map(|found| format!("{} = {}", &text[found.at], found.value.normal))
        .collect()
}

#[track_caller]
fn gives(text: &str, wanted: &[&str]) {
    assert_eq!(read(text), wanted, "{text}");
}

#[test]
fn dates_in_words() {
    gives(
        "He was born 13 March 1963 in Mediaș.",
        &["13 March 1963 = 1963-03-13"],
    );
    gives("It was March 13, 1963.", &["March 13, 1963 = 1963-03-13"]);
    gives(
        "the 13th of March 1963",
        &["13th of March 1963 = 1963-03-13"],
    );
    gives(
        "Mar. 1963 and Sept. 5, 1970",
        &["Mar. 1963 = 1963-03", "Sept. 5, 1970 = 1970-09-05"],
    );
    gives(
        "on 4 July and in August",
        &["4 July = XXXX-07-04", "August = XXXX-08"],
    );
    gives(
        "March 10–12, 1963",
        &["March 10–12, 1963 = 1963-03-10/1963-03-12"],
    );
    gives(
        "27 - 29 June 2012",
        &["27 = 2012-06-27", "29 June 2012 = 2012-06-29"],
    );
    gives("March 15, 44 BC", &["March 15, 44 BC = -0043-03-15"]);
}

#[test]
fn years_decades_and_centuries() {
    gives("from 1992 to 2002", &["1992 = 1992", "2002 = 2002"]);
    gives("(1939–1945)", &["1939 = 1939", "1945 = 1945"]);
    gives("the 2009–10 season", &["2009–10 = 2009/2010"]);
    gives(
        "the 1990s and the mid-1980s",
        &["1990s = 199X", "mid-1980s = 198X"],
    );
    gives("the 19th century", &["19th century = 18XX"]);
    gives("nineteenth-century art", &["nineteenth-century = 18XX"]);
    gives("in the 5th century BC", &["5th century BC = -04XX"]);
    gives("twenty-first century", &["twenty-first century = 20XX"]);
    gives(
        "in 300 B.C. and AD 79",
        &["300 B.C. = -0299", "AD 79 = 0079"],
    );
    gives("1 BC", &["1 BC = 0000"]);
    gives("c. 1500, c.1510", &["1500 = 1500~", "1510 = 1510~"]);
    gives("summer of 1969", &["summer of 1969 = 1969-22"]);
    gives(
        "the first quarter of 2009",
        &["first quarter of 2009 = 2009-33"],
    );
}

#[test]
fn dates_in_figures() {
    gives("2012-03-04", &["2012-03-04 = 2012-03-04"]);
    gives(
        "3/4/2012 or 31/4/2012",
        &["3/4/2012 = 2012-03-04", "31/4/2012 = 2012-04-31"],
    );
    gives("4.3.2012", &["4.3.2012 = 2012-03-04"]);
    gives("2012-03-04T10:00", &["2012-03-04 = 2012-03-04"]);
}

#[test]
fn no_dates() {
    for text in [
        "yesterday, on Monday",
        "1,500 people and 1500 people",
        "about 2000 soldiers",
        "Route 1950, No. 1990, B-1990, F1990",
        "You may 5 times; March on! The May family",
        "at 19:45, 2000:1",
        "chapter 3.1990.4",
        "1990x",
        "35 March",
        "http://x.org/1990/05",
        "the 99th century",
    ] {
        gives(text, &[]);
    }
}

#[test]
fn money() {
    gives("$5 million", &["$5 million = USD 5000000"]);
    gives(
        "€3.2bn or £20k",
        &["€3.2bn = EUR 3200000000", "£20k = GBP 20000"],
    );
    gives(
        "500 euros, 500 €",
        &["500 euros = EUR 500", "500 € = EUR 500"],
    );
    gives(
        "US$ 12 and HK$1,000.50",
        &["US$ 12 = USD 12", "HK$1,000.50 = HKD 1000.5"],
    );
    gives("20 pounds sterling", &["20 pounds sterling = GBP 20"]);
    gives(
        "two million Swiss francs",
        &["two million Swiss francs = CHF 2000000"],
    );
    gives("EUR 20 and 20 USD", &["EUR 20 = EUR 20", "20 USD = USD 20"]);
    gives("$5–$10 million", &["$5–$10 million = USD 5000000/10000000"]);
    gives("¥100", &["¥100 = JPY 100"]);
    gives("$2000 in 2000", &["$2000 = USD 2000", "2000 = 2000"]);
}

#[test]
fn percentages_and_quantities() {
    gives(
        "5 percent, 5.20%, 7 per cent",
        &["5 percent = 5%", "5.20% = 5.2%", "7 per cent = 7%"],
    );
    gives("Thirty-four percent", &["Thirty-four percent = 34%"]);
    gives("12 km (7.5 mi)", &["12 km = 12 km", "7.5 mi = 7.5 mi"]);
    gives("5,000 square miles", &["5,000 square miles = 5000 mi2"]);
    gives("3.5 hours", &["3.5 hours = 3.5 h"]);
    gives("a two-year deal", &["two-year = 2 year"]);
    gives("5 to 10 km", &["5 to 10 km = 5/10 km"]);
    gives(
        "80 km/h, 50 miles per hour",
        &["80 km/h = 80 km/h", "50 miles per hour = 50 mph"],
    );
    gives(
        "20 °C and 70 degrees Fahrenheit",
        &["20 °C = 20 °C", "70 degrees Fahrenheit = 70 °F"],
    );
    gives("the 1500 m race", &["1500 m = 1500 m"]);
    gives(
        "20 pounds of 1.5 million tonnes",
        &["20 pounds = 20 lb", "1.5 million tonnes = 1500000 t"],
    );
    gives(
        "45 m2, 45 m², 16-bit, 5km",
        &[
            "45 m2 = 45 m2",
            "45 m² = 45 m2",
            "16-bit = 16 bit",
            "5km = 5 km",
        ],
    );
    gives("0.05 mm", &["0.05 mm = 0.05 mm"]);
    for text in [
        "one second chance",
        "5 in London",
        "seven people",
        "747s",
        "#5 km-",
        "5\n\nkm",
        "99999999999999999999 km",
    ] {
        gives(text, &[]);
    }
}

#[test]
fn a_name_and_a_value_share_no_character() {
    let text = Text::new(
        "May 5, 2003: the 2002 Winter Olympics took 20 Swiss francs in Area 1990 until May 2004.",
    );
    let name = |words: &str| {
        let (at, _) = text.as_str().match_indices(words).next().unwrap();
        Mention {
            span: text.span(at..at + words.len()),
            label: Some(NameLabel::Misc),
            value: None,
            confidence: 0.5,
        }
    };
    let names = ["Area 1990", "May", "2002 Winter Olympics", "Swiss"];
    let names = names.map(name).to_vec();
    let all = join(&text, Span::new(0, text.chars()), names);
    let told: Vec<&str> = all.iter().map(|mention| text.slice(mention.span)).collect();
    assert_eq!(
        told,
        [
            "May 5, 2003",
            "2002 Winter Olympics",
            "20 Swiss francs",
            "Area 1990",
            "May 2004"
        ]
    );
}

#[test]
fn the_document_says_what_is_read() {
    let document = include_str!("../../../../docs/ONTOLOGY.md");
    let (_, table) = document.split_once("| class | text | value |\n").unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let mut normal: Vec<String> = values(row[2], 0..row[2].len())
            .into_iter()
            .map(|found| format!("`{}`", found.value.normal))
            .collect();
        normal.dedup();
        assert_eq!(normal.join("; "), row[3], "{}", row[2]);
    }
}

/// Not a test: what reading values costs. `cargo test --release --lib values_speed -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn values_speed() {
    let text = "In March 1950 President Kennedy met Ludwig van Beethoven and paid $5 million to the University of \
                Cambridge, 12 km away. The German company was bought for 20 percent of its value by the two partners. "
        .repeat(20_000);
    let words = text.split_whitespace().count();
    let begun = std::time::Instant::now();
    let found = values(&text, 0..text.len()).len();
    let nanos = begun.elapsed().as_nanos() / words as u128;
    assert_eq!(found, 80_000);
    assert!(nanos < 400, "{nanos} ns a word");
}

proptest! {
    #[test]
    fn values_are_apart_and_on_boundaries(
        text in "([0-9]{1,4}|[ .,:/–$€%'°²\n-]|é|😀|\u{301}|March |May |Jan\\. |th|st|s|BC|AD|c\\.| century|million |dollars |km|m|years|US\\$|twenty|-four |to |and |percent|the |of ){0,40}"
    ) {
        let found = values(&text, 0..text.len());
        let mut end = 0;
        for value in &found {
            prop_assert!(value.at.start >= end && value.at.end > value.at.start);
            end = value.at.end;
            let words = text.get(value.at.clone());
            prop_assert!(words.is_some_and(|words| words.trim() == words), "{:?}", value);
            prop_assert!((0.0..=1.0).contains(&value.confidence) && !value.value.normal.is_empty());
        }
        let indexed = Text::new(text.as_str());
        prop_assert_eq!(join(&indexed, Span::new(0, indexed.chars()), Vec::new()).len(), found.len());
    }

    #[test]
    fn any_text_is_read(text in any::<String>()) {
        let _ = values(&text, 0..text.len());
    }
}

#[test]
fn the_time_is_linear() {
    for unit in [
        "5",
        "5-",
        "5,000",
        "March ",
        "1990–",
        "$",
        "twenty-",
        "5 to ",
        "5 million ",
        ".",
        "é",
        "1.",
    ] {
        let text = unit.repeat(1_000_000 / unit.len());
        let begun = std::time::Instant::now();
        let _ = values(&text, 0..text.len());
        assert!(
            begun.elapsed().as_secs() < 10,
            "{unit:?} took {:?}",
            begun.elapsed()
        );
    }
}
