//! Embeddings and labels of the user's own.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use tonoscope_core::probes::Split;

use super::{
    super::unit::{Concept, Rows},
    notes::class_of,
    stored::Stored,
};
use crate::{failure::Failed, session::sha256};

/// What one line of the labels says.
struct Label {
    positive: bool,
    /// Of what is followed; none: it is learnt from or tested on.
    step: Option<usize>,
    group: Option<String>,
    /// Whether it is tested on.
    tested: Option<bool>,
}

/// The concept that `labels` describes, with the rows of `features`, and what was read.
pub(super) fn read(features: &Path, labels: &Path) -> Result<(Concept, Vec<(String, String)>)> {
    let stored = Stored::read(features)?;
    let text = std::fs::read(labels).with_context(|| format!("cannot read `{}`", labels.display()))?;
    let found = parse(&text).with_context(|| format!("`{}`", labels.display()))?;
    if found.len() != stored.rows() {
        let what = format!(
            "{} labels in `{}`, {} rows in `{}`",
            found.len(),
            labels.display(),
            stored.rows(),
            features.display()
        );
        return Err(Failed::new(what, "give one label per row, in the order of the rows").into());
    }
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '-' };
    let name: String =
        labels.file_stem().and_then(|stem| stem.to_str()).unwrap_or("labels").chars().map(plain).collect();
    let concept = concept(name, &stored, &found).with_context(|| format!("`{}`", labels.display()))?;
    let inputs = vec![("features".to_owned(), stored.sha256.clone()), ("labels".to_owned(), sha256(labels)?)];
    Ok((concept, inputs))
}

fn concept(name: String, stored: &Stored, labels: &[Label]) -> Result<Concept> {
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    let cluster: Vec<usize> = labels
        .iter()
        .enumerate()
        .map(|(row, label)| match &label.group {
            // Behind all rows, so that no group has the number of a row.
            Some(group) => {
                let next = labels.len() + groups.len();
                *groups.entry(group).or_insert(next)
            }
            None => row,
        })
        .collect();
    let of =
        |step: Option<usize>| -> Vec<usize> { (0..labels.len()).filter(|row| labels[*row].step == step).collect() };
    let rows = |chosen: &[usize]| Rows {
        features: chosen.iter().flat_map(|row| stored.row(*row)).copied().collect(),
        width: stored.width(),
        positive: chosen.iter().map(|row| labels[*row].positive).collect(),
        cluster: chosen.iter().map(|row| cluster[*row]).collect(),
    };
    let learnt = of(None);
    let tested: Vec<Option<bool>> = learnt.iter().map(|row| labels[*row].tested).collect();
    let split = if tested.iter().all(Option::is_none) {
        None
    } else {
        let part = |test: bool| (0..tested.len()).filter(|row| tested[*row] == Some(test)).collect();
        let split = Split { train: part(false), test: part(true) };
        if let Some(fault) = split.fault(learnt.len()) {
            return Err(Failed::new(format!("its split: {fault}"), "mark rows `train` and others `test`").into());
        }
        Some(split)
    };
    let mut steps: Vec<usize> = labels.iter().filter_map(|label| label.step).collect();
    steps.sort_unstable();
    steps.dedup();
    let steps = steps.into_iter().map(|step| (step, rows(&of(Some(step))))).collect();
    Ok(Concept { name, notes: rows(&learnt), split, steps, routes: vec![] })
}

fn parse(text: &[u8]) -> Result<Vec<Label>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let headers = reader.headers()?.clone();
    let column = |name: &str| headers.iter().position(|header| header == name);
    let known = ["label", "step", "group", "split"];
    let (Some(label), None) = (column("label"), headers.iter().find(|header| !known.contains(header))) else {
        let found: Vec<String> = headers.iter().take(8).map(crate::tensors::shortened).collect();
        let what = format!("its columns are `{}`", found.join(","));
        return Err(Failed::new(what, "expected `label`, and if need be `step`, `group` and `split`").into());
    };
    let (step, group, split) = (column("step"), column("group"), column("split"));
    let mut labels = vec![];
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |column: Option<usize>| column.and_then(|column| record.get(column)).filter(|text| !text.is_empty());
        let text = cell(Some(label)).unwrap_or_default();
        let positive = class_of(text).with_context(|| format!("line {line}: label `{text}`, expected 1 or 0"))?;
        let number =
            |text: &str| text.parse().with_context(|| format!("line {line}: step `{text}`, expected a number"));
        let tested = match cell(split) {
            None => None,
            Some("train") => Some(false),
            Some("test") => Some(true),
            Some(other) => anyhow::bail!("line {line}: split `{other}`, expected `train` or `test`"),
        };
        let group = cell(group).map(str::to_owned);
        labels.push(Label { positive, step: cell(step).map(number).transpose()?, group, tested });
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(rows: usize) -> Stored {
        Stored {
            path: "features.safetensors".into(),
            shape: vec![rows, 2],
            values: (0..rows * 2).map(|value| value as f32).collect(),
            metadata: BTreeMap::new(),
            sha256: String::new(),
        }
    }

    #[test]
    fn rows_with_a_step_are_followed_and_the_others_learnt_from() {
        let text = "label,step,group,split\n1,,,train\n0,,,train\nyes,,,test\nno,,,test\n1,5,a,\n0,5,b,\n1,10,a,\n";
        let concept = concept("x".to_owned(), &stored(7), &parse(text.as_bytes()).unwrap()).unwrap();
        assert_eq!(concept.notes.positive, [true, false, true, false]);
        assert_eq!(concept.split, Some(Split { train: vec![0, 1], test: vec![2, 3] }));
        assert_eq!(
            concept.steps.iter().map(|(step, rows)| (*step, rows.positive.len())).collect::<Vec<_>>(),
            [(5, 2), (10, 1)]
        );
        assert_eq!(concept.steps[1].1.features, [12.0, 13.0]);
        assert_eq!(concept.steps[0].1.cluster[0], concept.steps[1].1.cluster[0]);
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let told = |text: &str| format!("{:#}", parse(text.as_bytes()).map(|_| ()).unwrap_err());
        assert!(told("class\n1\n").contains("columns are `class`"));
        assert!(told("label,colour\n1,2\n").contains("colour"));
        assert!(told("label\nmaybe\n").contains("line 2: label `maybe`"));
        assert!(told("label,step\n1,x\n").contains("step `x`"));
        assert!(told("label,split\n1,both\n").contains("split `both`"));
    }
}
