//! Small lists for finer classes: countries, nationalities, other groups, languages, and the nouns that say what a
//! name is.
//!
//! They are written from general knowledge. Knows words alone, no text.

use std::{collections::HashMap, sync::LazyLock};

/// What a whole name can be listed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    Country = 1,
    Nationality = 2,
    Language = 4,
    Group = 8,
}

static NAMES: LazyLock<HashMap<&'static str, u8>> = LazyLock::new(|| {
    let mut names: HashMap<&str, u8> = HashMap::new();
    for (list, listed) in [
        (include_str!("countries.txt"), Listed::Country),
        (include_str!("nationalities.txt"), Listed::Nationality),
    ] {
        for name in list.lines() {
            *names.entry(name).or_default() |= listed as u8;
        }
    }
    for (names_of, listed) in [
        (LANGUAGES, Listed::Language),
        (GROUPS, Listed::Group),
        (MORE_COUNTRIES, Listed::Country),
    ] {
        for name in names_of.split(',') {
            *names.entry(name.trim()).or_default() |= listed as u8;
        }
    }
    names
});

static NOUNS: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    include_str!("nouns.txt")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .flat_map(|(kind, words)| words.split(' ').map(move |word| (word, kind)))
        .collect()
});

const MORE_COUNTRIES: &str = "U.S., US, U.S, USA, U.S.A., UK, U.K., U.K, USSR, U.S.S.R., America, Britain, Great Britain, \
    England, Scotland, Wales, Soviet Union, West Germany, East Germany, Yugoslavia, Czechoslovakia, United States, \
    United States of America, United Kingdom, Holland, Burma, Persia, Prussia, Nazi Germany, Ottoman Empire, \
    Roman Empire, North Korea, South Korea, Taiwan, Vatican City";

const LANGUAGES: &str = "English, French, German, Spanish, Italian, Portuguese, Dutch, Russian, Polish, Czech, Slovak, \
    Hungarian, Romanian, Bulgarian, Greek, Turkish, Arabic, Hebrew, Persian, Farsi, Urdu, Hindi, Bengali, Punjabi, \
    Tamil, Telugu, Malayalam, Kannada, Marathi, Gujarati, Sinhala, Nepali, Tibetan, Chinese, Mandarin, Cantonese, \
    Japanese, Korean, Vietnamese, Thai, Khmer, Lao, Malay, Indonesian, Javanese, Tagalog, Filipino, Swahili, Zulu, \
    Xhosa, Afrikaans, Amharic, Somali, Hausa, Yoruba, Igbo, Latin, Sanskrit, Esperanto, Yiddish, Welsh, Irish, Gaelic, \
    Scots, Breton, Basque, Catalan, Galician, Occitan, Corsican, Danish, Swedish, Norwegian, Icelandic, Faroese, \
    Finnish, Estonian, Latvian, Lithuanian, Ukrainian, Belarusian, Serbian, Croatian, Bosnian, Slovene, Slovenian, \
    Macedonian, Albanian, Armenian, Georgian, Azerbaijani, Kazakh, Uzbek, Mongolian, Kurdish, Pashto, Maori, Hawaiian, \
    Quechua, Guarani, Nahuatl, Old English, Middle English, Old Norse, Ancient Greek, Python, JavaScript, Perl, Fortran, \
    COBOL, Pascal, Ruby, Rust, Lisp, Haskell, Prolog";

const GROUPS: &str = "Jew, Jews, Jewish, Christian, Christians, Muslim, Muslims, Islamic, Catholic, Catholics, Roman Catholic, \
    Protestant, Protestants, Anglican, Orthodox, Buddhist, Buddhists, Hindu, Hindus, Sikh, Sikhs, Republican, Republicans, \
    Democrat, Democrats, Democratic, Communist, Communists, Marxist, Nazi, Nazis, Conservative, Conservatives, Liberal, \
    Liberals, Labour, Socialist, Socialists, Soviets, Americans, Germans, Russians, Italians, Canadians, Australians, \
    Indians, Africans, Asians, Europeans, Arabs, Kurds, Romans, Greeks, Turks, Palestinians, Israelis, Iraqis, Iranians, \
    Cubans, Mexicans, Brazilians, Ukrainians, Poles, Serbs, Croats, Bosnians, Albanians, Sunni, Shiite, Shia, Hispanic, \
    Latino, Native American, Native Americans, Black, Blacks, Whites, Mormon, Mormons, Quaker, Quakers, Methodist, \
    Presbyterian, Lutheran, Baptist, Baptists, Evangelical, Confederate, Confederates, Unionist, Viking, Vikings";

/// Whether a whole name is listed as that.
pub(super) fn is(name: &str, listed: Listed) -> bool {
    NAMES.get(name).is_some_and(|all| all & listed as u8 != 0)
}

/// What a noun in lower case says that something is: event, award, product, work or language.
pub(super) fn noun(lower: &str) -> Option<&'static str> {
    NOUNS.get(lower).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_is_read() {
        assert!(is("France", Listed::Country) && is("U.S.", Listed::Country));
        assert!(is("German", Listed::Nationality) && is("German", Listed::Language));
        assert!(is("Jewish", Listed::Group) && !is("Jewish", Listed::Country));
        assert_eq!(
            ["war", "prize", "aircraft", "novel", "language", "dog"].map(noun),
            [
                Some("event"),
                Some("award"),
                Some("product"),
                Some("work"),
                Some("language"),
                None
            ]
        );
    }
}
