//! `tonoscope prompts template`

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};
use tonoscope_core::{
    concepts::{Concept, ConceptSet, Disagreement},
    models::passt::Labels,
};

use crate::commands::concept_args::ConceptArgs;

/// Fill the slots of a template, for each of some concepts
///
/// The slot of the concept is fixed; the words of the others vary in nested loops, the first slot outermost. Prints a
/// prompt per line, with its concept and a tab in front where there are several concepts.
#[derive(Debug, clap::Args)]
pub(crate) struct TemplateArgs {
    #[command(flatten)]
    concepts: ConceptArgs,
    /// Instead of prompts, show where a published class index is not that of the class it was meant for
    #[arg(long)]
    disagreements: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &TemplateArgs, out: &mut dyn Write) -> Result<()> {
    let set = args.concepts.set()?;
    if args.disagreements {
        let chosen = args.concepts.choice.chosen(&set)?;
        let found = set.disagreements(Labels::audioset())?;
        let asked = |found: &Disagreement| chosen.iter().any(|concept| concept.name == found.concept);
        let found: Vec<Disagreement> = found.into_iter().filter(asked).collect();
        return if args.json { print_json(&as_json(&found), out) } else { print_disagreements(&found, out) };
    }
    let prompts_of = args.concepts.prompts(&set)?;
    if args.json {
        return print_json(&prompts_json(&set, &prompts_of), out);
    }
    for (concept, prompts) in &prompts_of {
        for prompt in prompts {
            // Own templates may hold anything; a prompt is one line all the same.
            let prompt = prompt.replace(['\n', '\r', '\t'], " ");
            if prompts_of.len() > 1 {
                writeln!(out, "{}\t{prompt}", concept.name)?;
            } else {
                writeln!(out, "{prompt}")?;
            }
        }
    }
    Ok(())
}

fn prompts_json(set: &ConceptSet, prompts: &[(&Concept, Vec<String>)]) -> Value {
    let concept = |(concept, prompts): &(&Concept, Vec<String>)| {
        json!({
            "name": concept.name, "slot": concept.slot, "word": concept.word(), "label": concept.label,
            "index": concept.index, "relevant": concept.relevant, "prompts": prompts,
        })
    };
    json!({ "template": set.template, "concepts": prompts.iter().map(concept).collect::<Vec<_>>() })
}

fn as_json(found: &[Disagreement]) -> Value {
    let row = |found: &Disagreement| {
        json!({
            "concept": found.concept,
            "published": { "index": found.published.0, "label": found.published.1 },
            "by_label": { "index": found.by_label.0, "label": found.by_label.1 },
        })
    };
    found.iter().map(row).collect()
}

fn print_disagreements(found: &[Disagreement], out: &mut dyn Write) -> Result<()> {
    if found.is_empty() {
        writeln!(out, "every published index is that of its label")?;
    }
    for Disagreement { concept, published: (index, name), by_label: (meant, label) } in found {
        let name = name.as_deref().map_or("no class".to_owned(), |name| format!("`{name}`"));
        writeln!(out, "{concept}: published index {index} is {name}, `{label}` is {meant}")?;
    }
    Ok(())
}

fn print_json(value: &Value, out: &mut dyn Write) -> Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}
