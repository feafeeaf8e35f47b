//! What is one thing and what is not, who decides, and that no order matters.

use proptest::prelude::*;

use super::*;

fn typed(id: u32, document: u32, name: &str, class: &str) -> ResolvableEntity<u32> {
    ResolvableEntity {
        id,
        document,
        name: name.to_owned(),
        aliases: Vec::new(),
        value: None,
        class: (!class.is_empty()).then(|| ClassId::new(class)),
        label: None,
        context: None,
    }
}

/// A document's names, a line: `document | class | name`.
fn lines(text: &str) -> Vec<ResolvableEntity<u32>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    (0..)
        .zip(lines)
        .map(|(id, line)| {
            let mut fields = line.split('|').map(str::trim);
            let document = fields.next().unwrap().parse().unwrap();
            let class = fields.next().unwrap();
            typed(id, document, fields.next().unwrap(), class)
        })
        .collect()
}

fn partition(resolution: &Resolution<u32>) -> Vec<Vec<u32>> {
    resolution
        .clusters
        .iter()
        .map(|cluster| cluster.members.clone())
        .collect()
}

fn together(entities: Vec<ResolvableEntity<u32>>, decisions: &Decisions<u32>) -> bool {
    resolve(entities, decisions).clusters.len() == 1
}

/// Whether two names of two documents are one thing.
fn one(a: &str, b: &str, class: &str) -> bool {
    let pair = vec![typed(0, 0, a, class), typed(1, 1, b, class)];
    together(pair, &Decisions::default())
}

#[test]
fn names_of_one_thing_are_one() {
    for (a, b, class) in [
        ("the Royal Society", "Royal Society", "organization"),
        ("U.S.", "United States", "LOC"),
        ("USA", "the United States of America", "GPE"),
        ("IBM", "International Business Machines Corp.", "ORG"),
        ("Apple Inc.", "Apple", "company"),
        ("Angela Merkel", "Chancellor Angela Merkel", "PER"),
        ("Rowling, J. K.", "J.K. Rowling", "person"),
        ("JK Rowling", "Joanne Rowling", "person"),
        ("Mohamed ElBaradei", "Mohammed El-Baradei", "PER"),
        ("François Hollande", "FRANCOIS HOLLANDE", "PER"),
        ("Bill Clinton", "William Clinton", "PER"),
        ("Portland, Ore.", "Portland, Oregon", "LOC"),
        ("Ministry of Defence", "Defense Ministry", "ORG"),
        ("World War II", "Second World War", "event"),
        ("U.S.", "United States", ""),
        ("Apple Inc.", "Apple", ""),
        ("President Bill Clinton", "Bill Clinton", ""),
    ] {
        assert!(one(a, b, class), "{a} / {b} ({class})");
    }
}

#[test]
fn names_of_two_things_are_two() {
    for (a, b, class) in [
        ("Paris", "Paris Hilton", "PER"),
        ("Paris", "Paris Hilton", ""),
        ("New York", "New York Yankees", ""),
        ("Olympics 2000", "Olympics 2004", "event"),
        ("Apollo XI", "Apollo XII", "event"),
        ("German", "Germany", ""),
        ("German", "Germany", "LOC"),
        ("John Smith", "Adam Smith", "PER"),
        ("George W. Bush", "George H. W. Bush", "PER"),
        ("Ken Griffey Sr.", "Ken Griffey Jr.", "PER"),
        ("Austria", "Australia", "LOC"),
        ("Mexico", "Mexico City", "LOC"),
        ("University of Washington", "Washington University", "ORG"),
        ("Maria Lopez", "Mario Lopez", "PER"),
        ("Merkel", "Angela Merkel", "PER"),
    ] {
        assert!(!one(a, b, class), "{a} / {b} ({class})");
    }
}

#[test]
fn one_value_is_one_thing_however_it_is_written() {
    let date = |id, name, value: &str| ResolvableEntity {
        value: Some(value.to_owned()),
        ..typed(id, id, name, "date")
    };
    let found = resolve(
        vec![
            date(1, "13 March 1963", "1963-03-13"),
            date(2, "March 13, 1963", "1963-03-13"),
            date(3, "3/13/63", "1863-03-13"),
            typed(4, 4, "1963-03-13", "date"),
        ],
        &Decisions::default(),
    );
    assert_eq!(partition(&found), [vec![1, 2], vec![3], vec![4]]);
    assert_eq!(found.merges[0].reason, Reason::SameValue);
}

#[test]
fn what_is_only_likely_is_proposed() {
    for (a, b, reason) in [
        ("Merkel", "Angela Merkel", Reason::Part),
        ("Michael Fisher", "M. Fisher", Reason::Initials),
    ] {
        let pair = vec![
            typed(0, 0, a, "PER"),
            typed(1, 1, b, "PER"),
            typed(2, 2, "Anna Fisher", "PER"),
        ];
        let resolution = resolve(pair, &Decisions::default());
        let links: Vec<_> = resolution
            .proposals
            .iter()
            .map(|link| (link.left, link.right, link.reason))
            .collect();
        assert_eq!(links, [(0, 1, reason)], "{a} / {b}");
    }
}

#[test]
fn types_that_differ_conflict_and_no_type_does_not() {
    let kinds = |a: &str, b: &str| {
        let pair = vec![typed(0, 0, "Medina", a), typed(1, 1, "Medina", b)];
        together(pair, &Decisions::default())
    };
    assert!(!kinds("PER", "LOC"));
    assert!(kinds("GPE", "http://schema.org/Place"));
    assert!(kinds("person", "B-PER"));
    assert!(kinds("PER", "MISC"));
    assert!(kinds("PER", ""));
    assert!(kinds("PER", "zorg"));
    // Of two kinds it may be either, so it is neither.
    let three = lines("0 | PER | Washington\n 1 | LOC | Washington\n 2 | MISC | Washington");
    assert_eq!(resolve(three, &Decisions::default()).clusters.len(), 3);
}

#[test]
fn a_surname_is_who_its_document_says() {
    let found = resolve(
        lines(
            "0 | PER | Bill Clinton
             0 | PER | Clinton
             1 | PER | Hillary Clinton
             1 | PER | Clinton
             1 | PER | Mrs. Clinton
             2 | PER | Bill Clinton
             3 | PER | Clinton",
        ),
        &Decisions::default(),
    );
    // In the last document it may be either.
    assert_eq!(partition(&found), [vec![0, 1, 5], vec![2, 3, 4], vec![6]]);
    assert_eq!(found.clusters[0].name, "Bill Clinton");
    assert!(
        found
            .proposals
            .iter()
            .any(|link| (link.left, link.right) == (0, 6))
    );
}

#[test]
fn a_rare_surname_of_the_only_one_who_has_it_is_theirs() {
    let found = resolve(
        lines(
            "0 | PER | Angela Merkel\n 1 | PER | Angela Merkel\n 2 | PER | Merkel\n 3 | PER | Smith\n 4 | PER | Smith",
        ),
        &Decisions::default(),
    );
    assert_eq!(partition(&found), [vec![0, 1, 2], vec![3], vec![4]]);
}

#[test]
fn company_tells_who_is_meant() {
    let mut entities = lines(
        "0 | PER | Bill Clinton\n 0 | ORG | Arkansas Gazette\n 0 | PER | Dick Morris\n 0 | PER | Paula Jones
         1 | PER | Chelsea Clinton\n 1 | ORG | Stanford Daily\n 1 | PER | Marc Mezvinsky
         2 | PER | Clinton\n 2 | ORG | Arkansas Gazette\n 2 | PER | Dick Morris\n 2 | PER | Paula Jones",
    );
    let found = resolve(entities.clone(), &Decisions::default());
    assert!(
        found.clusters[0].members.contains(&7),
        "{:?}",
        partition(&found)
    );
    assert!(
        found
            .merges
            .iter()
            .any(|merge| (merge.right, merge.reason) == (7, Reason::Part))
    );
    // A document that has two of the name does not say which.
    entities.push(typed(99, 2, "Chelsea Clinton", "PER"));
    entities.push(typed(98, 2, "Bill Clinton", "PER"));
    let found = resolve(entities, &Decisions::default());
    assert!(!found.clusters[0].members.contains(&7));
}

#[test]
fn a_join_holds_against_all_or_not_at_all() {
    // "J. Smith" fits both, and must not make one of them.
    let found = resolve(
        lines("0 | PER | John Smithers\n 1 | PER | J. Smithers\n 2 | PER | James Smithers"),
        &Decisions::default(),
    );
    assert_eq!(found.clusters.len(), 3);
    assert_eq!(found.proposals.len(), 2);
}

#[test]
fn users_have_the_last_word() {
    let entities = || {
        lines(
            "0 | PER | John Smith\n 1 | PER | John Smith\n 2 | PER | John Smith\n 3 | PER | Jack Sparrow",
        )
    };
    let different = Decisions {
        same: vec![],
        different: vec![(0, 2)],
    };
    assert_eq!(
        partition(&resolve(entities(), &different)),
        [vec![0, 1], vec![2], vec![3]]
    );
    let same = Decisions {
        same: vec![(3, 1), (7, 8)],
        different: vec![(9, 0)],
    };
    let found = resolve(entities(), &same);
    assert_eq!(partition(&found), [vec![0, 1, 2, 3]]);
    assert!(
        found
            .merges
            .iter()
            .any(|merge| merge.reason == Reason::Decided)
    );
    // What contradicts itself stays apart.
    let both = Decisions {
        same: vec![(0, 2)],
        different: vec![(0, 2)],
    };
    let found = resolve(entities(), &both);
    let apart =
        |cluster: &Cluster<u32>| !(cluster.members.contains(&0) && cluster.members.contains(&2));
    assert!(found.clusters.iter().all(apart));
}

#[test]
fn a_surname_that_a_user_gives_to_somebody_brings_no_other_one() {
    let entities = lines(
        "0 | PER | Una Merkel\n 1 | PER | Angela Merkel\n 2 | PER | Merkel\n 3 | PER | Merkel",
    );
    let decisions = Decisions {
        same: vec![(1, 2)],
        different: vec![],
    };
    assert_eq!(
        partition(&resolve(entities, &decisions)),
        [vec![0], vec![1, 2], vec![3]]
    );
}

#[test]
fn what_users_tell_apart_is_not_proposed_again() {
    let entities = || lines("0 | PER | Angela Merkel\n 1 | PER | Merkel");
    let decisions = Decisions {
        same: vec![],
        different: vec![(1, 0)],
    };
    assert_eq!(
        resolve(entities(), &Decisions::default()).proposals.len(),
        1
    );
    assert_eq!(resolve(entities(), &decisions).proposals, []);
}

#[test]
fn many_decisions_about_one_name_still_make_one_thing() {
    let entities = (0..200)
        .map(|id| typed(id, id, "John Smithers", "PER"))
        .collect();
    let decisions = Decisions {
        same: vec![],
        different: (1..100).map(|id| (id, id + 500)).collect(),
    };
    assert!(together(entities, &decisions));
}

#[test]
fn aliases_of_an_entity_are_proofs() {
    let mut entities = vec![
        typed(0, 0, "Zentrale Werke Halle", "ORG"),
        typed(1, 1, "ZWH", "ORG"),
    ];
    assert_eq!(
        resolve(entities.clone(), &Decisions::default())
            .clusters
            .len(),
        2
    );
    entities[0].aliases.push("ZWH".to_owned());
    assert!(together(entities, &Decisions::default()));
}

const NAMES: &[(&str, &str)] = &[
    ("Bill Clinton", "PER"),
    ("Clinton", "PER"),
    ("Hillary Clinton", "PER"),
    ("W. Clinton", "PER"),
    ("William Jefferson Clinton", "PER"),
    ("Mrs. Clinton", "PER"),
    ("Angela Merkel", "PER"),
    ("Merkel", "PER"),
    ("U.S.", "LOC"),
    ("United States", "LOC"),
    ("US", ""),
    ("Washington", "LOC"),
    ("Washington", "PER"),
    ("Washington", ""),
    ("IBM", "ORG"),
    ("Ibm Corp", "ORG"),
    ("Zentrale Werke Halle", "ORG"),
    ("ZWH", "ORG"),
    ("Mohamed ElBaradei", "PER"),
    ("Mohammed El Baradei", "PER"),
    ("Muhammad Elbaradei", ""),
    ("Elbaradei", ""),
    ("J. Smith", "PER"),
    ("John Smith", "PER"),
    ("James Smith", "PER"),
    ("John A. Smith", "PER"),
    ("Smith", "PER"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn neither_order_nor_numbers_of_documents_matter(
        (picked, order) in prop::collection::vec((0..NAMES.len(), 0..9_u32), 2..40).prop_flat_map(|picked| {
            let order: Vec<usize> = (0..picked.len()).collect();
            (Just(picked), Just(order).prop_shuffle())
        }),
        different in prop::collection::vec((0..40_u32, 0..40_u32), 0..3),
        same in prop::collection::vec((0..40_u32, 0..40_u32), 0..3),
    ) {
        let entities: Vec<_> = (0..).zip(&picked)
            .map(|(id, &(name, document))| typed(id, document, NAMES[name].0, NAMES[name].1))
            .collect();
        let decisions = Decisions { same, different };
        let straight = resolve(entities.clone(), &decisions);
        let shuffled: Vec<_> = order.iter()
            .map(|&place| ResolvableEntity { document: 8 - entities[place].document, ..entities[place].clone() })
            .collect();
        prop_assert_eq!(&straight, &resolve(shuffled, &decisions));

        // Every entity is in one cluster, and the merges of a cluster are a tree over its members.
        let members: usize = straight.clusters.iter().map(|cluster| cluster.members.len()).sum();
        prop_assert_eq!(members, entities.len());
        prop_assert_eq!(straight.merges.len(), members - straight.clusters.len());
        let cluster_of = |id: u32| straight.clusters.iter().position(|cluster| cluster.members.contains(&id));
        for merge in &straight.merges {
            prop_assert_eq!(cluster_of(merge.left), cluster_of(merge.right));
        }
        for link in &straight.proposals {
            prop_assert_ne!(cluster_of(link.left), cluster_of(link.right));
        }
        for &(left, right) in &decisions.different {
            if left != right && (left as usize) < members && (right as usize) < members {
                prop_assert_ne!(cluster_of(left), cluster_of(right));
            }
        }
    }
}
