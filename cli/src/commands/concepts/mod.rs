//! `tonoscope concepts`

mod build;
mod counts;
mod embed;
#[cfg(test)]
mod fuzz;
mod listed;
mod source;

use std::{io::Write, path::PathBuf};

use anyhow::{Context, Result};
use tonoscope_core::musicologist::{ConceptTable, ConceptTables};

pub(crate) use embed::{EmbedPlan, finish as finish_embed};

/// Build, count and embed sets of notes that have a concept or not
#[derive(Debug, clap::Args)]
pub(crate) struct ConceptsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Count what has each concept among annotated prompts and among notes
    Counts(counts::CountsArgs),
    /// Choose as many notes with each concept as without
    Build(build::BuildArgs),
    /// Embed the chosen notes, each once for all concepts
    Embed(Box<embed::EmbedArgs>),
}

pub(crate) fn run(args: &ConceptsArgs, out: &mut dyn Write) -> Result<()> {
    match &args.action {
        Action::Counts(args) => counts::run(args, out),
        Action::Build(args) => build::run(args, out),
        Action::Embed(args) => embed::run(args, out),
    }
}

/// Which concepts.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TableArgs {
    /// Own concepts, a TOML file of the form of `data/concepts_musicologist.toml` [default: the 28 published ones]
    #[arg(long, value_name = "FILE")]
    tables: Option<PathBuf>,
    /// Concepts by name [default: all of them]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    concepts: Vec<String>,
}

impl TableArgs {
    /// The file of own concepts.
    pub(crate) fn file(&self) -> Option<&PathBuf> {
        self.tables.as_ref()
    }

    /// The chosen concepts, in the order of the file.
    pub(crate) fn chosen(&self) -> Result<Vec<ConceptTable>> {
        let own;
        let tables = match &self.tables {
            None => ConceptTables::published(),
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
                own = ConceptTables::from_toml(&path.to_string_lossy(), &text)?;
                &own
            }
        };
        for name in &self.concepts {
            tables.concept(name)?;
        }
        let asked =
            |table: &&ConceptTable| self.concepts.is_empty() || self.concepts.iter().any(|name| name == table.name());
        Ok(tables.iter().filter(asked).cloned().collect())
    }
}
