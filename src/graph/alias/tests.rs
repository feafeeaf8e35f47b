//! Each rule by what it joins and by what it must not.

use std::time::Instant;

use super::*;

fn name(spelling: &str, label: NameLabel) -> Name<'_> {
    Name {
        spelling,
        label,
        explains: None,
    }
}

/// Which of the names are one thing with the first.
fn joined(label: NameLabel, names: &[&str]) -> Vec<bool> {
    let names: Vec<Name<'_>> = names.iter().map(|spelling| name(spelling, label)).collect();
    same(&names)
        .into_iter()
        .map(|(first, _)| first == 0)
        .collect()
}

#[track_caller]
fn one(label: NameLabel, names: &[&str]) {
    assert!(joined(label, names).iter().all(|&one| one), "{names:?}");
}

#[track_caller]
fn apart(label: NameLabel, names: &[&str]) {
    assert_eq!(
        joined(label, names).iter().filter(|&&one| one).count(),
        1,
        "{names:?}"
    );
}

#[test]
fn a_person_is_known_by_a_part_of_the_name() {
    for names in [
        &[
            "Angela Merkel",
            "Merkel",
            "Mrs. Merkel",
            "Angela Dorothea Merkel",
            "Chancellor Merkel",
        ][..],
        &["Merkel", "Angela Merkel"],
        &["J. R. Smith", "John Smith"],
        &["J.R. Smith", "J. Smith"],
        &["Newell Convers Wyeth", "N. C. Wyeth", "Wyeth"],
        &["Lech Wałęsa", "Walesa", "Wałęsa’s"],
        &["Joseph-Octave Mousseau", "Joseph Octave Mousseau"],
        &["Queen Victoria", "Victoria"],
    ] {
        one(NameLabel::Per, names);
    }
}

#[test]
fn persons_who_share_a_part_of_the_name_stay_apart() {
    for names in [
        &["John Smith", "Mary Smith"][..],
        &["John Smith", "Jack Smith"],
        &["Merkel", "Merkle"],
        &["Louis XIV", "Louis XV"],
        &["Ludwig van Beethoven", "van Gogh"],
    ] {
        apart(NameLabel::Per, names);
    }
    // Nobody says which Bush is meant.
    assert_eq!(
        joined(
            NameLabel::Per,
            &["George Bush", "Laura Bush", "Bush", "George"]
        ),
        [true, false, false, true]
    );
    // A surname is likelier than a first name.
    assert_eq!(
        joined(
            NameLabel::Per,
            &["Hillary Clinton", "Clinton Smith", "Clinton"]
        ),
        [true, false, true]
    );
}

#[test]
fn an_organization_is_known_by_its_letters_and_without_its_legal_form() {
    for names in [
        &[
            "International Business Machines Corporation",
            "IBM",
            "I.B.M.",
            "International Business Machines",
        ][..],
        &[
            "Intel",
            "Intel Corporation",
            "Intel Corp.",
            "the Intel Corp",
        ],
        &["Navy, Army and Air Force Institutes", "NAAFI"],
        &[
            "University of Cambridge",
            "Cambridge University",
            "Cambridge",
        ],
        &["Norwegian Parliament", "the Parliament"],
    ] {
        one(NameLabel::Org, names);
    }
    for names in [
        &["Samsung", "Samsung Electronics"][..],
        &["Intel", "Inter"],
        &["Bank of England", "Bank of Scotland"],
    ] {
        apart(NameLabel::Org, names);
    }
    // Two are of these letters, and neither is meant for certain.
    assert_eq!(
        joined(
            NameLabel::Org,
            &[
                "American Bar Association",
                "Amateur Boxing Association",
                "ABA"
            ]
        ),
        [true, false, false]
    );
}

#[test]
fn brackets_explain_an_acronym_that_takes_several_letters_of_a_word() {
    let mut names = [
        name("Association of Southeast Asian Nations", NameLabel::Org),
        name("ASEAN", NameLabel::Org),
        name("ANSA", NameLabel::Org),
    ];
    let first = |names: &[Name<'_>]| -> Vec<usize> {
        same(names).into_iter().map(|(first, _)| first).collect()
    };
    assert_eq!(first(&names), [0, 1, 2]);
    for name in &mut names[1..] {
        name.explains = Some(0);
    }
    // The letters of the last one are in another order.
    names[2].spelling = "AZS";
    assert_eq!(first(&names), [0, 0, 2]);
}

#[test]
fn a_place_may_leave_out_what_kind_of_place_it_is() {
    one(NameLabel::Loc, &["New York City", "New York"]);
    one(
        NameLabel::Loc,
        &["People's Republic of China", "China", "PRC"],
    );
    one(NameLabel::Loc, &["United States", "U.S.", "the US"]);
    one(NameLabel::Loc, &["İzmir Province", "Izmir"]);
    for names in [
        &["Orange County", "Orange"][..],
        &["Salt Lake City", "Utah"],
        &["New Mexico", "Mexico"],
        &["Germany", "German"],
    ] {
        apart(NameLabel::Loc, names);
    }
}

#[test]
fn works_and_events_are_known_by_their_whole_name_or_letters() {
    one(NameLabel::Misc, &["World Wrestling Entertainment", "WWE"]);
    apart(NameLabel::Misc, &["Titanfall: Assault", "Titanfall"]);
    apart(NameLabel::Misc, &["Asian Para Games", "Asian Games"]);
}

#[test]
fn labels_keep_names_apart() {
    let names = [
        name("Paris Hilton", NameLabel::Per),
        name("Paris", NameLabel::Loc),
        name("Paris", NameLabel::Org),
    ];
    let first: Vec<usize> = same(&names).into_iter().map(|(first, _)| first).collect();
    assert_eq!(first, [0, 1, 2]);
}

#[test]
fn ten_thousand_names_take_no_time() {
    let letter = |number: usize| char::from(b'a' + u8::try_from(number % 26).unwrap());
    let word = |number: usize| -> String {
        [number, number / 26, number / 676]
            .map(letter)
            .iter()
            .collect()
    };
    let shapes: [&dyn Fn(usize) -> String; 4] = [
        &|number| format!("{} Smith", word(number)),
        &|number| format!("{}. {} Smith", letter(number), word(number)),
        &|number| word(number),
        &|number| format!("{} {}", word(number % 100), word(number / 100)),
    ];
    for label in [
        NameLabel::Per,
        NameLabel::Org,
        NameLabel::Loc,
        NameLabel::Misc,
    ] {
        for shape in shapes {
            let spellings: Vec<String> = (0..10_000).map(shape).collect();
            let names: Vec<Name<'_>> = spellings.iter().map(|one| name(one, label)).collect();
            let begun = Instant::now();
            let _ = same(&names);
            // About a second without optimization; all pairs would take minutes.
            assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
        }
    }
}
