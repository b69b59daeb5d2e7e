//! Counts the words of texts.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_distr::{Distribution, Zipf};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use crate::paths::SentPath;
use crate::{Error, Result, memory, say, text};

/// Vocabulary of generated texts.
const VOCABULARY: usize = 3000;
const SYLLABLES: [&str; 12] = [
    "ba", "ne", "ti", "ko", "lu", "sha", "re", "mi", "no", "du", "van", "es",
];

/// What a generated word takes, with its place in a list of words.
const GENERATED_WORD_BYTES: u64 = 32;

/// A text. The value is small: it is sent to the thread that counts the text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Text {
    /// A file. Invalid UTF-8 in it separates words.
    File(SentPath),
    /// Generated words, whose frequencies follow Zipf's law, as in natural languages.
    Generated {
        /// Number of words.
        words: usize,
        /// Seed.
        seed: u64,
    },
}

/// The files of a directory, in the order of their names. Says what is there besides.
pub fn files(directory: &Path) -> Result<Vec<Text>> {
    let bad = |source| Error::File {
        path: directory.display().to_string(),
        source,
    };
    if directory.is_file() {
        return Err(Error::Content {
            path: directory.display().to_string(),
            detail: "is a file; give the directory of the text files".to_owned(),
        });
    }
    let (mut paths, mut others) = (Vec::new(), Vec::new());
    for entry in directory.read_dir().map_err(bad)? {
        let path = entry.map_err(bad)?.path();
        match what(&path) {
            None => paths.push(path),
            Some(what) => others.push(format!("{} is {what}", path.display())),
        }
    }
    others.sort();
    if let Some(more) = others.len().checked_sub(OTHERS_SAID_MAX + 1) {
        others.truncate(OTHERS_SAID_MAX);
        others.push(format!("and {} more", more + 1));
    }
    if !others.is_empty() {
        say::note(format_args!("not counted: {}", others.join("; ")));
    }
    if paths.is_empty() {
        return Err(Error::Content {
            path: directory.display().to_string(),
            detail: "there is no file in it; give a directory of text files".to_owned(),
        });
    }
    paths.sort();
    Ok(paths
        .into_iter()
        .map(|path| Text::File(SentPath(path)))
        .collect())
}

/// How many things that are not counted are said.
const OTHERS_SAID_MAX: usize = 5;

/// A word for what is there, unless it is a file.
fn what(path: &Path) -> Option<String> {
    let kind = match path.metadata() {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Some("a link to what does not exist".to_owned());
        }
        Err(error) => return Some(format!("not to be read: {}", crate::reason(&error))),
    };
    let what = match () {
        () if kind.is_file() => return None,
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Some(what.to_owned())
}

/// Generates texts.
pub fn generated(texts: u64, words: usize, seed: u64) -> Vec<Text> {
    (0..texts)
        .map(|text| Text::Generated {
            words,
            seed: seed.wrapping_add(text),
        })
        .collect()
}

/// Distributes the texts to the threads, of which there are no more than texts.
pub fn deal(texts: &[Text], threads: usize) -> Vec<&[Text]> {
    let threads = threads.min(texts.len());
    let bound = |thread: usize| thread * texts.len() / threads;
    let dealt = (0..threads).map(|thread| &texts[bound(thread)..bound(thread + 1)]);
    dealt.collect()
}

/// Counts how many times each word occurs in the texts. Words are those of Unicode (UAX 29), in lower case; an accent is the
/// same whether it is part of its letter or follows it.
pub fn words(texts: &[Text]) -> Result<Vec<(String, u64)>> {
    let mut counts = HashMap::new();
    for text in texts {
        let text: String = text.load()?.nfc().collect();
        for word in text.unicode_words() {
            *counts.entry(word.to_lowercase()).or_default() += 1;
        }
    }
    Ok(counts.into_iter().collect())
}

impl Text {
    fn load(&self) -> Result<String> {
        match self {
            Text::File(path) => {
                let name = || path.0.display().to_string();
                let bytes = std::fs::read(&path.0).map_err(|source| Error::File {
                    path: name(),
                    source,
                })?;
                let text = text::unmarked(&bytes).map_err(|detail| Error::Content {
                    path: name(),
                    detail,
                })?;
                Ok(String::from_utf8_lossy(text).into_owned())
            }
            Text::Generated { words, seed } => make_up(*words, *seed),
        }
    }
}

fn make_up(words: usize, seed: u64) -> Result<String> {
    let bytes = (words as u64).checked_mul(GENERATED_WORD_BYTES);
    memory::check(|| format!("a text of {words} words"), bytes)?;
    // All texts use the same vocabulary.
    let mut random = Xoshiro256PlusPlus::seed_from_u64(0);
    let vocabulary: Vec<String> = (0..VOCABULARY)
        .map(|rank| {
            let syllables = 1 + (rank + 1).ilog10();
            let parts = (0..syllables).filter_map(|_| SYLLABLES.choose(&mut random));
            parts.copied().collect()
        })
        .collect();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let ranks = Zipf::new(VOCABULARY as f64, 1.0).map_err(|e| Error::Option(e.to_string()))?;
    let chosen = (0..words).map(|_| vocabulary[ranks.sample(&mut random) as usize - 1].as_str());
    Ok(chosen.collect::<Vec<_>>().join(" "))
}

/// Prints the most frequent words; equally frequent words are in alphabetical order.
pub fn report(mut counts: Vec<(String, u64)>, top: usize) {
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    say!("{total} words, {} different", counts.len());
    counts.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then(a.cmp(b)));
    for (word, count) in counts.iter().take(top) {
        say!("{count:8} {word}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn counted(texts: &[Text]) -> BTreeMap<String, u64> {
        words(texts).unwrap().into_iter().collect()
    }

    #[test]
    fn words_are_counted_as_people_would() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("b"),
            "The cat, the CAT -- and\nÉté 42!",
        )
        .unwrap();
        std::fs::write(directory.path().join("a"), b"cat\xff\xfedog").unwrap();
        std::fs::create_dir(directory.path().join("c")).unwrap();
        let texts = files(directory.path()).unwrap();
        assert_eq!(texts.len(), 2);
        let expected = [
            ("42", 1),
            ("and", 1),
            ("cat", 3),
            ("dog", 1),
            ("the", 2),
            ("été", 1),
        ];
        let expected = expected.map(|(word, count)| (word.to_owned(), count));
        assert_eq!(counted(&texts), BTreeMap::from(expected));
    }

    #[test]
    fn words_of_all_scripts_are_whole() {
        let directory = tempfile::tempdir().unwrap();
        // Vowel signs and composed accents are marks and no letters; an I with a dot becomes two characters.
        let text = "हिन्दी हिन्दी \u{130}stanbul cafe\u{301} caf\u{e9} CAFÉ don't";
        std::fs::write(directory.path().join("a"), text).unwrap();
        let counts = counted(&files(directory.path()).unwrap());
        let expected = [
            ("don't", 1),
            ("café", 3),
            ("i\u{307}stanbul", 1),
            ("हिन्दी", 2),
        ];
        let expected = expected.map(|(word, count)| (word.to_owned(), count));
        assert_eq!(counts, BTreeMap::from(expected));
    }

    #[test]
    fn made_up_texts_have_frequent_and_rare_words() {
        let counts = counted(&generated(3, 2000, 1));
        assert_eq!(counts.values().sum::<u64>(), 6000);
        assert!(counts.len() > 500);
        assert!(counts.values().max().unwrap() > &300);
    }

    #[test]
    fn every_text_is_dealt_once() {
        let texts = generated(10, 1, 1);
        let dealt = deal(&texts, 4);
        assert!(dealt.iter().all(|texts| !texts.is_empty()));
        assert_eq!(dealt.iter().map(|texts| texts.len()).sum::<usize>(), 10);
        assert_eq!(deal(&texts, 11).len(), 10);
    }
}
