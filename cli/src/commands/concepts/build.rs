//! `tonoscope concepts build`

use std::{io::Write, path::Path, path::PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tonoscope_core::musicologist::{ConceptTable, Matched, Note, printed_list};

use super::{
    TableArgs,
    listed::INDEX,
    source::{FoundNotes, NotesArgs},
};
use crate::{
    files::{Inputs, OutputFolder},
    json_path, progress,
    session::sha256,
};

/// Choose as many notes with each concept as without
///
/// Writes `CONCEPT.csv` for each concept, positives first, in the published columns, and `concepts.json`, what was
/// chosen from what. The same notes and seed give the same choice, whatever the order of the notes.
#[derive(Debug, clap::Args)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    notes: NotesArgs,
    #[command(flatten)]
    tables: TableArgs,
    /// Most notes that are chosen with a concept, and as many without
    #[arg(long, default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(1..))]
    most: u32,
    /// Seed of the choice
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the results
    #[arg(long, default_value = "concepts")]
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `concepts.json`, and what `--json` prints.
#[derive(Debug, Serialize)]
struct Built {
    version: &'static str,
    #[serde(serialize_with = "json_path::one")]
    examples: PathBuf,
    sha256: String,
    notes: usize,
    seed: u64,
    most: u32,
    concepts: Vec<BuiltConcept>,
}

/// What was chosen for one concept.
#[derive(Debug, Serialize)]
struct BuiltConcept {
    concept: String,
    positives: usize,
    negatives: usize,
    excluded: usize,
    /// Chosen of each side.
    chosen: usize,
    /// `None`: there was nothing to choose.
    file: Option<String>,
}

pub(crate) fn run(args: &BuildArgs, out: &mut dyn Write) -> Result<()> {
    let tables = args.tables.chosen()?;
    let found = args.notes.find()?;
    let inputs = Inputs::new([&found.examples].into_iter().chain(args.tables.file()));
    let folder = OutputFolder::begin(&args.out, &inputs)?;
    folder.refuse_inputs(tables.iter().map(file_of).chain([INDEX.to_owned()]))?;
    let index = folder.path().join(INDEX);
    // Gone while the files behind it change.
    if index.exists() {
        std::fs::remove_file(&index).with_context(|| format!("cannot remove `{}`", index.display()))?;
    }
    let bar = progress::steps(tables.len() as u64, "choosing notes", "concepts");
    let mut concepts = vec![];
    for table in &tables {
        concepts.push(build(table, &found, args, &folder)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let built = Built {
        version: env!("CARGO_PKG_VERSION"),
        sha256: sha256(&found.examples)?,
        examples: found.examples,
        notes: found.notes.len(),
        seed: args.seed,
        most: args.most,
        concepts,
    };
    folder.write(INDEX, &serde_json::to_vec_pretty(&built)?)?;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &built)?;
        writeln!(out)?;
        return Ok(());
    }
    print(&built, &args.out, out)
}

fn print(built: &Built, folder: &Path, out: &mut dyn Write) -> Result<()> {
    let width = built.concepts.iter().map(|row| row.concept.len()).max().unwrap_or(0);
    writeln!(out, "{:width$}  positives  negatives  excluded  chosen of each", "")?;
    for row in &built.concepts {
        let BuiltConcept { concept, positives, negatives, excluded, chosen, .. } = row;
        writeln!(out, "{concept:width$}  {positives:9}  {negatives:9}  {excluded:8}  {chosen:14}")?;
    }
    let nothing = built.concepts.iter().filter(|row| row.chosen == 0).map(|row| row.concept.as_str());
    let nothing: Vec<&str> = nothing.collect();
    if !nothing.is_empty() {
        writeln!(out, "no file for {}: one of its sides is empty", nothing.join(", "))?;
    }
    let files = built.concepts.len() - nothing.len();
    Ok(writeln!(out, "{files} concepts of {} notes in `{}`", built.notes, folder.display())?)
}

/// The file of a concept.
fn file_of(table: &ConceptTable) -> String {
    format!("{}.csv", table.name())
}

fn build(table: &ConceptTable, found: &FoundNotes, args: &BuildArgs, folder: &OutputFolder) -> Result<BuiltConcept> {
    let (mut positives, mut negatives) = (vec![], vec![]);
    for (index, note) in found.notes.iter().enumerate() {
        match table.note(note).class() {
            Some(true) => positives.push(index),
            Some(false) => negatives.push(index),
            None => {}
        }
    }
    let counts = [positives.len(), negatives.len()];
    let chosen = counts[0].min(counts[1]).min(args.most as usize);
    let name = file_of(table);
    let path = folder.path().join(&name);
    if chosen > 0 {
        let choose = |side: Vec<usize>| choose(&found.notes, side, chosen, args.seed, table.name());
        folder.write(&name, &csv(table, found, &choose(positives), &choose(negatives))?)?;
    } else if path.exists() {
        // Of other notes: nobody may take it for one of these.
        std::fs::remove_file(&path).with_context(|| format!("cannot remove `{}`", path.display()))?;
    }
    Ok(BuiltConcept {
        concept: table.name().to_owned(),
        positives: counts[0],
        negatives: counts[1],
        excluded: found.notes.len() - counts[0] - counts[1],
        chosen,
        file: (chosen > 0).then_some(name),
    })
}

/// `count` of the notes `side`, in random order: those whose hash of seed, concept and name is smallest.
fn choose(notes: &[Note], side: Vec<usize>, count: usize, seed: u64, concept: &str) -> Vec<usize> {
    let begin = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(concept).chain_update([0]);
    let rank = |index: usize| {
        let digest: [u8; 32] = begin.clone().chain_update(&notes[index].note_str).finalize().into();
        (digest, index)
    };
    let mut ranked: Vec<([u8; 32], usize)> = side.into_iter().map(rank).collect();
    if count < ranked.len() {
        ranked.select_nth_unstable(count);
        ranked.truncate(count);
    }
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, index)| index).collect()
}

/// The file of a concept, as pandas writes it.
fn csv(table: &ConceptTable, found: &FoundNotes, positives: &[usize], negatives: &[usize]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(vec![]);
    let near = format!("{}_like", table.name());
    writer.write_record([
        "qualities",
        "pitch",
        "note",
        "instrument_source_str",
        "velocity",
        "instrument_str",
        "instrument",
        "sample_rate",
        "qualities_str",
        "instrument_source",
        "note_str",
        "instrument_family",
        "instrument_family_str",
        "audio_fpath",
        table.name(),
        &near,
        "binary_class",
        "binary_class_str",
    ])?;
    let python = |truth: bool| if truth { "True" } else { "False" };
    for (side, class, called) in [(positives, "1", "positive"), (negatives, "0", "negative")] {
        for note in side.iter().map(|index| &found.notes[*index]) {
            let Matched { filter, padder } = table.note(note);
            let qualities: Vec<String> = note.qualities.iter().map(u8::to_string).collect();
            let path = found.audio.join(format!("{}.wav", note.note_str));
            let fields: [&str; 18] = [
                &format!("[{}]", qualities.join(", ")),
                &note.pitch.to_string(),
                &note.note.to_string(),
                &note.instrument_source_str,
                &note.velocity.to_string(),
                &note.instrument_str,
                &note.instrument.to_string(),
                &note.sample_rate.to_string(),
                &printed_list(&note.qualities_str),
                &note.instrument_source.to_string(),
                &note.note_str,
                &note.instrument_family.to_string(),
                &note.instrument_family_str,
                &path.to_string_lossy(),
                python(filter),
                python(padder),
                class,
                called,
            ];
            writer.write_record(fields)?;
        }
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}
