//! What the rows of a capture are to be told apart by.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result, bail};
use tonoscope_core::concepts::Concept;

use crate::failure::{Failed, Misuse};

/// What one label is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    /// Index of the prompt in the capture.
    pub(super) prompt: usize,
    /// Generation step; `None`: the whole prompt.
    pub(super) step: Option<usize>,
}

/// Rows and their classes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Labelled {
    /// In the order of prompts and steps.
    pub(super) rows: Vec<Row>,
    /// Class of every row.
    pub(super) labels: Vec<usize>,
    /// For every row the first prompt of the same text: such rows are never learnt from and tested on.
    pub(super) groups: Vec<usize>,
    /// Names of the classes.
    pub(super) classes: Vec<String>,
}

impl Labelled {
    /// Labels of a CSV file with one of the headers `label` (a row per prompt), `prompt_index,label`, and
    /// `prompt_index,step,label`, its columns in any order.
    pub(super) fn from_csv(path: &Path, prompts: &[String]) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Self::parse(&text, prompts).with_context(|| format!("`{}`", path.display()))
    }

    fn parse(text: &[u8], prompts: &[String]) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
        let headers = reader.headers()?.clone();
        let column = |name: &str| headers.iter().position(|header| header == name);
        let (prompt, step) = (column("prompt_index"), column("step"));
        let known = 1 + usize::from(prompt.is_some()) + usize::from(step.is_some());
        let Some(label) = column("label").filter(|_| headers.len() == known && (prompt.is_some() || step.is_none()))
        else {
            let found: Vec<&str> = headers.iter().collect();
            let what = format!("its columns are `{}`", found.join(","));
            return Err(Failed::new(what, "expected `label`, `prompt_index,label` or `prompt_index,step,label`").into());
        };
        let mut labelled: BTreeMap<Row, String> = BTreeMap::new();
        for (index, record) in reader.records().enumerate() {
            let record = record?;
            let line = record.position().map_or(0, csv::Position::line);
            let number = |column: usize| {
                record[column]
                    .parse::<usize>()
                    .with_context(|| format!("line {line}: `{}` is no index", &record[column]))
            };
            let row = Row { prompt: prompt.map_or(Ok(index), number)?, step: step.map(number).transpose()? };
            if row.prompt >= prompts.len() {
                bail!("line {line} is about prompt {}, the capture has {} (from 0)", row.prompt, prompts.len());
            }
            if record[label].is_empty() {
                bail!("line {line} has no label");
            }
            if labelled.insert(row, record[label].to_owned()).is_some() {
                bail!("line {line} labels prompt {} a second time", row.prompt);
            }
        }
        if prompt.is_none() && labelled.len() < prompts.len() {
            bail!("{} labels for the {} prompts of the capture", labelled.len(), prompts.len());
        }
        Ok(Self::new(labelled, prompts))
    }

    /// For every prompt that one of `concepts` occurs in, that concept.
    pub(super) fn from_concepts(concepts: &[&Concept], prompts: &[String]) -> Result<Self> {
        if concepts.len() < 2 {
            return Err(Misuse::new("one concept, expected two or more to tell apart").into());
        }
        let mut labelled = BTreeMap::new();
        for (prompt, text) in prompts.iter().enumerate() {
            let named: Vec<&&Concept> = concepts.iter().filter(|concept| mentions(text, concept.word())).collect();
            match named.as_slice() {
                [] => {}
                [only] => drop(labelled.insert(Row { prompt, step: None }, only.name.clone())),
                [first, second, ..] => {
                    let what =
                        format!("prompt {prompt} is about both `{}` and `{}`: `{text}`", first.name, second.name);
                    return Err(Failed::new(what, "choose concepts of one slot, or give `--labels`").into());
                }
            }
        }
        Ok(Self::new(labelled, prompts))
    }

    fn new(labelled: BTreeMap<Row, String>, prompts: &[String]) -> Self {
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, text) in prompts.iter().enumerate() {
            first.entry(text).or_insert(index);
        }
        let classes: Vec<String> = labelled.values().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let labels = labelled.values().map(|label| classes.partition_point(|class| class < label)).collect();
        let rows: Vec<Row> = labelled.into_keys().collect();
        let groups = rows.iter().map(|row| first[prompts[row.prompt].as_str()]).collect();
        Self { rows, labels, groups, classes }
    }

    /// Whether labels are of steps rather than of prompts.
    pub(super) fn per_frame(&self) -> bool {
        self.rows.iter().any(|row| row.step.is_some())
    }

    /// Number of rows of each class.
    pub(super) fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        self.labels.iter().for_each(|label| counts[*label] += 1);
        counts
    }

    /// Different prompts.
    pub(super) fn independent(&self) -> usize {
        self.groups.iter().collect::<BTreeSet<_>>().len()
    }
}

/// Whether `word` occurs in `text`, not as a part of a longer word.
fn mentions(text: &str, word: &str) -> bool {
    let (text, word) = (text.to_lowercase(), word.to_lowercase());
    let is_part = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
    !word.is_empty()
        && text.match_indices(&word).any(|(start, word)| {
            !is_part(text[..start].chars().next_back()) && !is_part(text[start + word.len()..].chars().next())
        })
}

#[cfg(test)]
mod tests {
    use tonoscope_core::concepts::ConceptSet;

    use super::*;

    fn prompts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn parse(text: &str) -> Result<Labelled> {
        Labelled::parse(text.as_bytes(), &prompts(&["a", "b", "a"]))
    }

    fn rows(of: &[(usize, Option<usize>)]) -> Vec<Row> {
        of.iter().map(|&(prompt, step)| Row { prompt, step }).collect()
    }

    #[test]
    fn three_forms_of_labels() {
        let plain = parse("label\npiano\n\"a, b\"\npiano\n").unwrap();
        assert_eq!(plain.rows, rows(&[(0, None), (1, None), (2, None)]));
        assert_eq!((plain.labels, plain.groups), (vec![1, 0, 1], vec![0, 1, 0]));
        assert_eq!(plain.classes, ["a, b", "piano"]);
        let indexed = parse("\u{feff}label, prompt_index\r\npiano, 2\r\nguitar, 0\r\n").unwrap();
        assert_eq!((indexed.rows, indexed.labels), (rows(&[(0, None), (2, None)]), vec![0, 1]));
        let frames = parse("prompt_index,step,label\n1,7,x\n1,3,y\n0,0,x\n").unwrap();
        assert_eq!(
            (frames.rows.clone(), frames.per_frame()),
            (rows(&[(0, Some(0)), (1, Some(3)), (1, Some(7))]), true)
        );
        assert_eq!((frames.labels.clone(), frames.independent(), frames.counts()), (vec![0, 1, 0], 2, vec![2, 1]));
    }

    #[test]
    fn files_that_are_not_labels() {
        let says = |text: &str, part: &str| {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(part), "{error}");
        };
        says("", "columns");
        says("class\nx\n", "`class`");
        says("prompt,label\n0,x\n", "`prompt,label`");
        says("step,label\n0,x\n", "`step,label`");
        says("label\nx\n", "1 labels for the 3 prompts");
        says("label\nx\nx\nx\nx\n", "line 5 is about prompt 3, the capture has 3");
        says("prompt_index,label\n7,x\n", "line 2 is about prompt 7");
        says("prompt_index,label\none,x\n", "line 2: `one` is no index");
        says("prompt_index,label\n1,x\n1,y\n", "line 3 labels prompt 1 a second time");
        says("prompt_index,label\n1,\n", "line 2 has no label");
        says("prompt_index,label\n1\n", "fields");
    }

    #[test]
    fn concepts_are_found_as_whole_words() {
        let set = ConceptSet::ismir();
        let of = |names: &[&str]| names.iter().map(|name| set.concept(name).unwrap()).collect::<Vec<_>>();
        let texts = prompts(&["A Guitar piece.", "a piano", "guitars", "pop with a guitar"]);
        let found = Labelled::from_concepts(&of(&["piano", "guitar"]), &texts).unwrap();
        assert_eq!((found.rows, found.labels), (rows(&[(0, None), (1, None), (3, None)]), vec![0, 1, 0]));
        let both = Labelled::from_concepts(&of(&["pop", "guitar"]), &texts).unwrap_err();
        assert!(both.to_string().contains("prompt 3 is about both `pop` and `guitar`"), "{both}");
        assert!(Labelled::from_concepts(&of(&["pop"]), &texts).is_err());
    }
}
