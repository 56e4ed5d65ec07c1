//! Which concepts a command is about, and how they are put into prompts.

use std::path::Path;

use anyhow::{Context, Result};
use tonoscope_core::concepts::{Concept, ConceptSet};

use crate::failure::Misuse;

/// Which concepts.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ConceptChoice {
    /// Concepts: `all`, names such as `guitar,piano`, or a TOML file of your own (`own.toml`, or `own.toml,oboe` for one
    /// of its concepts); the names are those of the ISMIR 2024 paper unless a file is given
    #[arg(long, alias = "concept", value_name = "CONCEPTS", value_delimiter = ',')]
    pub(crate) concepts: Vec<String>,
}

/// Which concepts, and their prompts.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ConceptArgs {
    #[command(flatten)]
    pub(crate) choice: ConceptChoice,
    /// Prompts of each concept, the first of all that its template makes
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) prompts_per_concept: usize,
    /// Another template, its slots in brackets, such as `A [MOOD] [GENRE] piece with a [INSTRUMENTS], [TEMPO].`
    #[arg(long, value_name = "TEXT")]
    pub(crate) template: Option<String>,
}

impl ConceptChoice {
    /// Whether concepts were asked for at all.
    pub(crate) fn is_given(&self) -> bool {
        !self.concepts.is_empty()
    }

    /// The set that names are looked up in: the file that is given, else the built-in one.
    pub(crate) fn set(&self) -> Result<ConceptSet> {
        let files: Vec<&String> = self.concepts.iter().filter(|name| is_file(name)).collect();
        match files.as_slice() {
            [] => Ok(ConceptSet::ismir().clone()),
            [file] => {
                let text = std::fs::read_to_string(file).with_context(|| format!("cannot read `{file}`"))?;
                Ok(ConceptSet::from_toml(file, &text)?)
            }
            [first, second, ..] => {
                let what = format!("two files of concepts, `{first}` and `{second}`");
                Err(Misuse::new(what).hint("put all concepts into one file: they share a template").into())
            }
        }
    }

    /// The concepts of `set` that were asked for, in that order; all where no name is given.
    pub(crate) fn chosen<'a>(&self, set: &'a ConceptSet) -> Result<Vec<&'a Concept>> {
        let names: Vec<&String> = self.concepts.iter().filter(|name| !is_file(name)).collect();
        if names.is_empty() || names.iter().any(|name| *name == "all") {
            return Ok(set.concepts.iter().collect());
        }
        let mut chosen: Vec<&Concept> = vec![];
        for name in names {
            let concept = set.concept(name)?;
            if chosen.iter().any(|known| known.name == concept.name) {
                return Err(Misuse::new(format!("concept `{name}` is asked for twice")).into());
            }
            chosen.push(concept);
        }
        Ok(chosen)
    }
}

impl ConceptArgs {
    /// The set, in the words of the template that is given.
    pub(crate) fn set(&self) -> Result<ConceptSet> {
        let set = self.choice.set()?;
        match &self.template {
            Some(template) => Ok(set.with_template(template)?),
            None => Ok(set),
        }
    }

    /// The concepts of `set` that were asked for and their prompts.
    pub(crate) fn prompts<'a>(&self, set: &'a ConceptSet) -> Result<Vec<(&'a Concept, Vec<String>)>> {
        if self.prompts_per_concept == 0 {
            return Err(Misuse::new("0 prompts per concept, expected 1 or more").into());
        }
        let with_prompts = |concept| Ok((concept, set.prompts(concept, self.prompts_per_concept)?));
        self.choice.chosen(set)?.into_iter().map(with_prompts).collect()
    }
}

fn is_file(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"))
}
