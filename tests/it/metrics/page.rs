//! A reader of `OpenMetrics`' text format that takes nothing but what the format allows: families with type and help before
//! their samples, in one piece; suffixes that fit the type; labels in order and none twice; buckets that add up; and an
//! end.

use std::collections::{BTreeMap, BTreeSet};

/// Labels by name.
pub(super) type Labels = BTreeMap<String, String>;

/// A page, read.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Type and help by family.
    pub(super) families: BTreeMap<String, (String, String)>,
    /// Every sample: its name, its labels, its value.
    pub(super) samples: Vec<(String, Labels, f64)>,
}

impl Page {
    /// Reads a page.
    #[track_caller]
    pub(super) fn read(text: &str) -> Self {
        let mut page = Self::default();
        let body = text.strip_suffix("# EOF\n").expect("an end");
        let (mut help, mut family) = (None::<(String, String)>, String::new());
        let mut seen = BTreeSet::new();
        for line in body.split_terminator('\n') {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                assert!(help.is_none(), "help without a type: {line}");
                let (name, said) = rest.split_once(' ').unwrap();
                help = Some((name.to_owned(), said.to_owned()));
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                let (of, said) = help.take().expect("help before the type");
                assert_eq!(of, name, "{line}");
                assert!(is_name(name), "{line}");
                assert!(said.len() > 10 && said.ends_with('.'), "{name}: {said}");
                name.clone_into(&mut family);
                let before = page
                    .families
                    .insert(family.clone(), (kind.to_owned(), said));
                assert!(before.is_none(), "two families of one name: {line}");
            } else {
                let (name, labels, value) = sample(line);
                let kind = &page.families[&family].0;
                let suffix = name.strip_prefix(&*family);
                let suffix = suffix.unwrap_or_else(|| panic!("not of `{family}`: {line}"));
                let fits = match kind.as_str() {
                    "counter" => suffix == "_total" && value >= 0.0,
                    "gauge" => suffix.is_empty(),
                    "info" => suffix == "_info" && value == 1.0,
                    "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
                    _ => false,
                };
                assert!(fits, "{kind}: {line}");
                assert!(value.is_finite(), "{line}");
                assert_eq!(suffix == "_bucket", labels.contains_key("le"), "{line}");
                assert!(seen.insert((name.clone(), labels.clone())), "twice: {line}");
                page.samples.push((name, labels, value));
            }
        }
        assert!(help.is_none(), "help without a type");
        for (name, (kind, _)) in &page.families {
            if kind == "histogram" {
                page.assert_adds_up(name);
            }
        }
        page
    }

    /// The buckets of a histogram go up, and the last one is its count.
    fn assert_adds_up(&self, name: &str) {
        for (_, labels, count) in self.of(&format!("{name}_count")) {
            let mut bounds = Vec::new();
            for (_, bucket, counted) in self.of(&format!("{name}_bucket")) {
                let mut without = bucket.clone();
                let bound = without.remove("le").unwrap();
                if &without == labels {
                    let bound = bound.replace("+Inf", "inf").parse::<f64>().unwrap();
                    bounds.push((bound, *counted));
                }
            }
            assert!(bounds.is_sorted(), "{name} {labels:?}: {bounds:?}");
            assert!(bounds.is_sorted_by_key(|(_, counted)| *counted), "{name}");
            let (last, counted) = bounds.last().unwrap();
            assert!(last.is_infinite(), "{name}");
            assert_eq!(counted, count, "{name} {labels:?}");
        }
    }

    /// The samples of a name.
    pub(super) fn of(&self, name: &str) -> impl Iterator<Item = &(String, Labels, f64)> {
        self.samples.iter().filter(move |(of, ..)| of == name)
    }

    /// The one sample of that name whose labels say all of this; `None` if there is none.
    #[track_caller]
    pub(super) fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let says = |of: &Labels| {
            labels
                .iter()
                .all(|(name, value)| of.get(*name).is_some_and(|is| is == value))
        };
        let mut found = self.of(name).filter(|(_, of, _)| says(of));
        let first = found.next().map(|(.., value)| *value);
        assert!(found.next().is_none(), "several of {name} {labels:?}");
        first
    }

    /// The names of all samples.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.samples.iter().map(|(name, ..)| name.clone()).collect()
    }
}

/// The sum over pages, by some labels' values.
pub(super) fn sums(pages: &[Page], name: &str, by: &[&str]) -> BTreeMap<Vec<String>, f64> {
    let mut sums = BTreeMap::new();
    for (_, labels, value) in pages.iter().flat_map(|page| page.of(name)) {
        let key = by.iter().map(|label| labels[*label].clone()).collect();
        *sums.entry(key).or_default() += value;
    }
    sums
}

fn is_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    first && name.bytes().all(rest)
}

/// `name{label="value",…} number`
fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    let mut rest = rest;
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(is_name(label), "{line}");
            let (value, after) = quoted(after);
            assert!(
                labels.insert(label.to_owned(), value).is_none(),
                "twice `{label}`: {line}"
            );
            rest = after;
            if let Some(more) = rest.strip_prefix(',') {
                assert!(!more.starts_with('}'), "{line}");
                rest = more;
            } else {
                assert!(rest.starts_with('}'), "{line}");
            }
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').unwrap();
    assert!(!value.contains(' '), "{line}");
    (name.to_owned(), labels, value.parse().unwrap())
}

/// What stands before the closing quote, and what comes after it.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return (value, &text[place + 1..]),
            '\\' => match characters.next().unwrap().1 {
                'n' => value.push('\n'),
                escaped @ ('"' | '\\') => value.push(escaped),
                other => panic!("`\\{other}` is no escape"),
            },
            other => value.push(other),
        }
    }
    panic!("no closing quote: {text}");
}

#[test]
fn what_is_no_page_is_refused() {
    let good =
        "# HELP a_b Some words here.\n# TYPE a_b counter\na_b_total{c=\"d\\\"e\"} 1\n# EOF\n";
    let page = Page::read(good);
    assert_eq!(page.get("a_b_total", &[("c", "d\"e")]), Some(1.0));
    for (from, to) in [
        ("# EOF\n", ""),
        ("counter", "gauge"),
        ("a_b_total{", "a_c_total{"),
        ("c=\"d", "c=d"),
        ("} 1", "} one"),
        ("} 1", "} -1"),
        ("} 1\n", "} 1\na_b_total{c=\"d\\\"e\"} 2\n"),
        ("# HELP a_b Some words here.\n", ""),
    ] {
        let bad = good.replace(from, to);
        let read = std::panic::catch_unwind(|| Page::read(&bad));
        assert!(read.is_err(), "{bad}");
    }
}
