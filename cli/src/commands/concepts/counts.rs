//! `tonoscope concepts counts`

use std::{collections::BTreeMap, io::Write, path::PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use tonoscope_core::musicologist::{
    Annotation, ConceptTable, Note, PublishedResult, Vocabulary, read_annotations, read_results,
};

use super::{
    TableArgs,
    source::{FoundNotes, NotesArgs},
};
use crate::{
    audio_info,
    failure::Misuse,
    files::{Inputs, OutputFolder},
    tables::Table,
};

/// Count what has each concept among annotated prompts and among notes
///
/// Of prompts, samples are counted: those that have a concept, and those that do not come near it. Of notes, those that
/// have it, those that do not come near it, and those that are neither and therefore left out.
#[derive(Debug, clap::Args)]
pub(crate) struct CountsArgs {
    /// Annotated prompts: a JSON file such as the published `annotations.json`
    #[arg(long, value_name = "FILE")]
    annotations: Option<PathBuf>,
    /// Generated files instead: their `audio_info.csv`; those of its first diffusion step are counted
    #[arg(long, value_name = "FILE", conflicts_with = "annotations")]
    audio_info: Option<PathBuf>,
    /// Samples that are generated of each annotated prompt
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    samples: u32,
    /// How words are found in annotations: as it was published, or as it was meant
    #[arg(long, value_enum, default_value_t = VocabularyArg::Published)]
    vocabulary: VocabularyArg,
    /// Results to compare with: a JSON file such as the published `concept_results.json`
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Count notes too
    #[arg(long)]
    notes_too: bool,
    #[command(flatten)]
    notes: NotesArgs,
    #[command(flatten)]
    tables: TableArgs,
    /// Folder for `counts.json`, `generated_counts.csv` and `note_counts.csv`
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How words are found in annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum VocabularyArg {
    Published,
    Corrected,
}

impl From<VocabularyArg> for Vocabulary {
    fn from(argument: VocabularyArg) -> Self {
        match argument {
            VocabularyArg::Published => Self::Published,
            VocabularyArg::Corrected => Self::Corrected,
        }
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Counts {
    #[serde(skip_serializing_if = "Option::is_none")]
    generated: Option<Generated>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<Vec<NoteRow>>,
}

#[derive(Debug, Serialize)]
struct Generated {
    vocabulary: Vocabulary,
    /// Generated samples in all.
    samples: usize,
    concepts: Vec<GeneratedRow>,
}

/// Samples of one concept; differences are what was published less what is counted.
#[derive(Debug, Serialize)]
struct GeneratedRow {
    concept: String,
    positives: usize,
    published_positives: Option<usize>,
    positives_difference: Option<i64>,
    negatives: usize,
    published_negatives: Option<usize>,
    negatives_difference: Option<i64>,
    /// Counted on both sides, as published.
    both: usize,
}

/// Notes of one concept.
#[derive(Debug, Serialize)]
pub(super) struct NoteRow {
    pub(super) concept: String,
    pub(super) positives: usize,
    pub(super) negatives: usize,
    pub(super) excluded: usize,
}

pub(crate) fn run(args: &CountsArgs, out: &mut dyn Write) -> Result<()> {
    let tables = args.tables.chosen()?;
    let generated = args.clips()?;
    if generated.is_none() && !args.notes_too {
        let misuse = Misuse::new("nothing to count");
        return Err(misuse.hint("give `--annotations FILE` or `--audio-info FILE`, or `--notes-too`, or both").into());
    }
    let published = args.results.as_ref().map(|path| {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        read_results(&bytes).with_context(|| format!("`{}`", path.display()))
    });
    let published = published.transpose()?.unwrap_or_default();
    let generated = generated.map(|(annotations, samples)| {
        let vocabulary = args.vocabulary.into();
        let row = |table| generated_row(table, &annotations, samples, vocabulary, &published);
        Generated { vocabulary, samples: annotations.len() * samples, concepts: tables.iter().map(row).collect() }
    });
    let notes = if args.notes_too { Some(args.notes.find()?) } else { None };
    let notes = notes.map(|FoundNotes { notes, .. }| note_rows(&tables, &notes));
    let counts = Counts { generated, notes };
    if let Some(path) = &args.out {
        let inputs = [&args.annotations, &args.audio_info, &args.results].into_iter().flatten();
        write_files(&counts, &OutputFolder::begin(path, &Inputs::new(inputs.chain(args.tables.file())))?)?;
    }
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &counts)?;
        writeln!(out)?;
        return Ok(());
    }
    if let Some(generated) = &counts.generated {
        print_generated(generated, out)?;
    }
    if let Some(notes) = &counts.notes {
        if counts.generated.is_some() {
            writeln!(out)?;
        }
        print_notes(notes, out)?;
    }
    Ok(())
}

impl CountsArgs {
    /// What is said of what was generated, and how many samples each is said of.
    fn clips(&self) -> Result<Option<(Vec<Annotation>, usize)>> {
        if let Some(path) = &self.annotations {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
            let annotations = read_annotations(&bytes).with_context(|| format!("`{}`", path.display()))?;
            return Ok(Some((annotations, self.samples as usize)));
        }
        let Some(path) = &self.audio_info else { return Ok(None) };
        let clips = audio_info::read(path)?;
        let first = clips.iter().map(|clip| clip.diffusion_step).min();
        let of_first = clips.into_iter().filter(|clip| Some(clip.diffusion_step) == first);
        Ok(Some((of_first.map(|clip| clip.annotation).collect(), 1)))
    }
}

fn generated_row(
    table: &ConceptTable,
    annotations: &[Annotation],
    samples: usize,
    vocabulary: Vocabulary,
    published: &BTreeMap<String, Vec<PublishedResult>>,
) -> GeneratedRow {
    let (mut positives, mut negatives, mut both) = (0, 0, 0);
    for annotation in annotations {
        let sides = table.prompt(annotation, vocabulary);
        positives += samples * usize::from(sides.positive);
        negatives += samples * usize::from(sides.negative);
        both += samples * usize::from(sides.positive && sides.negative);
    }
    // All steps and classifiers of a concept are about the same samples.
    let result = published.get(table.name()).and_then(|results| results.first());
    let difference = |there: usize, here: usize| there as i64 - here as i64;
    GeneratedRow {
        concept: table.name().to_owned(),
        positives,
        published_positives: result.map(|result| result.pos_gen_audio_samples),
        positives_difference: result.map(|result| difference(result.pos_gen_audio_samples, positives)),
        negatives,
        published_negatives: result.map(|result| result.neg_gen_audio_samples),
        negatives_difference: result.map(|result| difference(result.neg_gen_audio_samples, negatives)),
        both,
    }
}

/// Notes on each side of every concept.
pub(super) fn note_rows(tables: &[ConceptTable], notes: &[Note]) -> Vec<NoteRow> {
    let row = |table: &ConceptTable| {
        let (mut positives, mut negatives) = (0, 0);
        for note in notes {
            match table.note(note).class() {
                Some(true) => positives += 1,
                Some(false) => negatives += 1,
                None => {}
            }
        }
        let excluded = notes.len() - positives - negatives;
        NoteRow { concept: table.name().to_owned(), positives, negatives, excluded }
    };
    tables.iter().map(row).collect()
}

fn write_files(counts: &Counts, folder: &OutputFolder) -> Result<()> {
    folder.write("counts.json", &serde_json::to_vec_pretty(counts)?)?;
    if let Some(generated) = &counts.generated {
        let mut table = Table::new();
        generated.concepts.iter().try_for_each(|row| table.push(row))?;
        table.write(folder, "generated_counts.csv")?;
    }
    if let Some(notes) = &counts.notes {
        let mut table = Table::new();
        notes.iter().try_for_each(|row| table.push(row))?;
        table.write(folder, "note_counts.csv")?;
    }
    Ok(())
}

fn print_generated(generated: &Generated, out: &mut dyn Write) -> Result<()> {
    let rows = &generated.concepts;
    let width = rows.iter().map(|row| row.concept.len()).max().unwrap_or(0);
    let compared = rows.iter().any(|row| row.published_positives.is_some());
    writeln!(out, "generated samples: {}", generated.samples)?;
    if !compared {
        writeln!(out, "{:width$}  positives  negatives", "")?;
        for row in rows {
            writeln!(out, "{:width$}  {:9}  {:9}", row.concept, row.positives, row.negatives)?;
        }
        return Ok(());
    }
    writeln!(out, "{:width$}  positives  published  differ  negatives  published  differ", "")?;
    let number = |number: Option<usize>| number.map_or("-".to_owned(), |number| number.to_string());
    let signed = |number: Option<i64>| match number {
        None => "-".to_owned(),
        Some(0) => "0".to_owned(),
        Some(number) => format!("{number:+}"),
    };
    for row in rows {
        writeln!(
            out,
            "{:width$}  {:9}  {:>9}  {:>6}  {:9}  {:>9}  {:>6}",
            row.concept,
            row.positives,
            number(row.published_positives),
            signed(row.positives_difference),
            row.negatives,
            number(row.published_negatives),
            signed(row.negatives_difference),
        )?;
    }
    summary("positives", rows.iter().filter_map(|row| row.positives_difference), out)?;
    summary("negatives", rows.iter().filter_map(|row| row.negatives_difference), out)
}

/// `negatives: 14 as published, 13 published higher by 7, 1 published higher by 14`
fn summary(what: &str, differences: impl Iterator<Item = i64>, out: &mut dyn Write) -> Result<()> {
    let mut counted: BTreeMap<i64, usize> = BTreeMap::new();
    for difference in differences {
        *counted.entry(difference).or_default() += 1;
    }
    let said = |(difference, count): (&i64, &usize)| match difference {
        0 => format!("{count} as published"),
        1.. => format!("{count} published higher by {difference}"),
        _ => format!("{count} published lower by {}", -difference),
    };
    let mut parts: Vec<String> = counted.iter().filter(|(difference, _)| **difference == 0).map(said).collect();
    parts.extend(counted.iter().filter(|(difference, _)| **difference != 0).map(said));
    Ok(writeln!(out, "{what}: {}", parts.join(", "))?)
}

fn print_notes(rows: &[NoteRow], out: &mut dyn Write) -> Result<()> {
    let width = rows.iter().map(|row| row.concept.len()).max().unwrap_or(0);
    let total = rows.first().map_or(0, |row| row.positives + row.negatives + row.excluded);
    writeln!(out, "notes: {total}")?;
    writeln!(out, "{:width$}  positives  negatives  excluded", "")?;
    for row in rows {
        writeln!(out, "{:width$}  {:9}  {:9}  {:8}", row.concept, row.positives, row.negatives, row.excluded)?;
    }
    let without: Vec<&str> = rows.iter().filter(|row| row.positives == 0).map(|row| row.concept.as_str()).collect();
    if !without.is_empty() {
        writeln!(out, "no note has {}", without.join(", "))?;
    }
    Ok(())
}
