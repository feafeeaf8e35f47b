//! From "Swedish" to "sweden". Annotators and taggers that call an adjective of a country a place mean the country.

/// Adjectives that no ending explains, and their places.
const IRREGULAR: [(&str, &[&str]); 44] = [
    (
        "american",
        &[
            "united states",
            "united states of america",
            "us",
            "usa",
            "america",
        ],
    ),
    (
        "americans",
        &[
            "united states",
            "united states of america",
            "us",
            "usa",
            "america",
        ],
    ),
    (
        "america",
        &["united states", "united states of america", "us", "usa"],
    ),
    ("us", &["united states", "united states of america", "usa"]),
    (
        "british",
        &["united kingdom", "uk", "great britain", "britain"],
    ),
    ("french", &["france"]),
    ("german", &["germany"]),
    ("germans", &["germany"]),
    ("dutch", &["netherlands"]),
    ("greek", &["greece"]),
    ("swiss", &["switzerland"]),
    ("welsh", &["wales"]),
    ("spanish", &["spain"]),
    ("danish", &["denmark"]),
    ("finnish", &["finland"]),
    ("polish", &["poland"]),
    ("irish", &["ireland", "republic of ireland"]),
    ("filipino", &["philippines"]),
    ("philippine", &["philippines"]),
    ("thai", &["thailand"]),
    ("czech", &["czech republic", "czechia"]),
    ("norwegian", &["norway"]),
    ("belgian", &["belgium"]),
    ("canadian", &["canada"]),
    ("portuguese", &["portugal"]),
    ("ukrainian", &["ukraine"]),
    ("argentine", &["argentina"]),
    ("argentinian", &["argentina"]),
    ("peruvian", &["peru"]),
    ("soviet", &["soviet union", "ussr"]),
    ("turkish", &["turkey"]),
    ("serb", &["serbia"]),
    ("croat", &["croatia"]),
    ("slovene", &["slovenia"]),
    ("afghan", &["afghanistan"]),
    ("uzbek", &["uzbekistan"]),
    ("kazakh", &["kazakhstan"]),
    ("tajik", &["tajikistan"]),
    ("turkmen", &["turkmenistan"]),
    ("kyrgyz", &["kyrgyzstan"]),
    ("burmese", &["burma", "myanmar"]),
    ("congolese", &["democratic republic of the congo", "congo"]),
    ("south korean", &["republic of korea"]),
    ("north korean", &["democratic people republic of korea"]),
];

/// Endings of adjectives, and what the place has in their stead.
const ENDINGS: [(&str, &[&str]); 8] = [
    ("ian", &["", "ia", "y", "e", "a"]),
    ("an", &["", "a", "o", "e"]),
    ("n", &[""]),
    ("ese", &["", "a", "o", "e"]),
    ("ish", &["", "land", "en", "eland"]),
    ("i", &["", "a", "e"]),
    ("ic", &[""]),
    ("er", &[""]),
];

/// The shortest stem that an ending leaves.
const STEM: usize = 3;

/// The keys that the place of `adjective` may have, likelier ones first; none if it is no adjective of a place.
pub(super) fn places(adjective: &str) -> Vec<String> {
    if let Some((_, places)) = IRREGULAR
        .iter()
        .find(|(irregular, _)| *irregular == adjective)
    {
        return places.iter().map(|&place| place.to_owned()).collect();
    }
    ENDINGS
        .iter()
        .filter_map(|(ending, instead)| Some((adjective.strip_suffix(ending)?, instead)))
        .filter(|(stem, _)| stem.chars().count() >= STEM)
        .flat_map(|(stem, instead)| instead.iter().map(move |end| format!("{stem}{end}")))
        .collect()
}
