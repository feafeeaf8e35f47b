//! The lists of places, names and clusters, read from their files.

use std::path::Path;

use super::super::{
    tagger::{
        hash,
        known::{Clusters, Known, Map, place_key},
    },
    token,
};

/// A place by its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Place {
    Country = 1,
    State = 2,
    City = 3,
    Town = 4,
}

/// Reads `loc.tsv`, `names.tsv` and `clus.tsv` of a folder.
pub(super) fn read(folder: &Path) -> Result<Known, std::io::Error> {
    let lines = |file: &str| std::fs::read_to_string(folder.join(file));
    let mut places = Vec::new();
    for line in lines("loc.tsv")?.lines() {
        let Some((name, class)) = line.split_once('\t') else {
            continue;
        };
        let class = match class {
            "COUNTRY" => Place::Country,
            "STATE" => Place::State,
            "CITY" => Place::City,
            _ => Place::Town,
        };
        let key = token::tokens(name, 0..name.len())
            .iter()
            .fold(0, |key, token| {
                place_key(key, hash::bytes(token.text.as_bytes()))
            });
        places.push((key, class as u8));
    }
    let names = lines("names.tsv")?
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, class)| {
            let class = match class {
                "FIRST" => 1,
                "LAST" => 2,
                _ => 3,
            };
            (hash::bytes(name.as_bytes()), class)
        })
        .collect::<Vec<(u32, u8)>>();
    let mut clusters: Vec<(u32, Clusters)> = Vec::new();
    for line in lines("clus.tsv")?.lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        if let [word, a, b, c] = cells[..]
            && let (Ok(a), Ok(b), Ok(c)) = (a.parse(), b.parse(), c.parse())
        {
            clusters.push((hash::bytes(word.as_bytes()), [a, b, c]));
        }
    }
    Ok(Known {
        places: Map::new(places, u8::min),
        names: Map::new(names, |old, new| old | new),
        clusters: Map::new(clusters, |old, _| old),
        cues: Known::read_cues(),
    })
}
