//! What `tonoscope intervene` is asked for, and the plan that it makes.

use std::{ops::Range, path::PathBuf};

use anyhow::Result;
use tonoscope_core::{
    concepts::{Concept, ConceptSet, Indices},
    hooks::{Branch, Site},
    interventions::{Feed, Technique},
    models::{musicgen::Generate, passt::Labels},
};

use super::plan::{InterventionPlan, PlannedConcept};
use crate::{
    commands::concept_args::ConceptArgs,
    failure::Misuse,
    files::Inputs,
    judge::JudgeArgs,
    prompt_file,
    second_judge::SecondJudgeArgs,
    session::FoundModel,
    study::{Basis, LayerList, StudyArgs},
};

/// Put one concept's mean activations in place of another's, and measure what becomes of the music
///
/// One intervention is one site in one layer, changed at every step. Effects are log odds of the judge's probabilities, as
/// published: how far the music moves from the original concept to the desired one.
#[derive(Debug, clap::Args)]
pub(crate) struct InterveneArgs {
    /// Original concept: a name, or a file of prompts, with the class that stands for it as `FILE=CLASS`
    #[arg(long, value_name = "CONCEPT")]
    from: Option<String>,
    /// Desired concept, likewise
    #[arg(long, value_name = "CONCEPT")]
    to: Option<String>,
    /// Every ordered pair of the concepts
    #[arg(long, conflicts_with_all = ["from", "to"])]
    all_pairs: bool,
    #[command(flatten)]
    pub(super) concepts: ConceptArgs,
    /// Intervene on this prompt instead of the original concept's; several times for several
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// `replace` by the desired concept's mean, or `adjust` by the difference of the means
    #[arg(long, value_name = "TECHNIQUE", value_delimiter = ',', default_values_t = ["replace".to_owned(), "adjust".to_owned()])]
    technique: Vec<String>,
    /// Sites, such as `mlp_out`, or `self_attn.z` for every head by itself
    #[arg(long, value_delimiter = ',', default_values_t = ["self_attn_out".to_owned(), "cross_attn_out".to_owned(), "mlp_out".to_owned()])]
    sites: Vec<String>,
    /// Layers, from 0: `all`, or numbers and ranges such as `0,12,20..24`, which ends before 24
    #[arg(long, default_value = "all")]
    layers: LayerList,
    /// Half of the guidance batch that is changed
    #[arg(long, value_enum, default_value_t = BranchChoice::Cond)]
    branch: BranchChoice,
    /// Tokens that an intervened row sees next
    #[arg(long, value_enum, default_value_t = FeedChoice::Clean)]
    feed: FeedChoice,
    /// Strength; 1 is the published one
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    scale: f64,
    /// Generation steps in which the change acts, such as `50..100` [default: all]
    #[arg(long, value_name = "RANGE", value_parser = parse_steps)]
    steps: Option<Range<usize>>,
    /// Random directions of the same norm, for each intervention
    #[arg(long, value_name = "K", default_value_t = 0)]
    controls: usize,
    /// Keep the audio of the K most and least effective interventions on each prompt
    #[arg(long, value_name = "K", default_value_t = 0)]
    save_extremes: usize,
    /// Save the difference of the means as edits that `generate --edit` applies: `edits/FROM_to_TO.safetensors`
    #[arg(long)]
    pub(super) save_edits: bool,
    /// Folder of mean activations, to be shared by several runs [default: `means` inside `--out`]
    #[arg(long, value_name = "FOLDER")]
    pub(super) means: Option<PathBuf>,
    /// Interventions that are computed together
    #[arg(long, value_name = "N", default_value_t = 48)]
    pub(super) rows: usize,
    #[command(flatten)]
    pub(super) judge: JudgeArgs,
    #[command(flatten)]
    pub(super) second: SecondJudgeArgs,
    #[command(flatten)]
    pub(super) study: StudyArgs,
}

/// Half of the guidance batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum BranchChoice {
    /// The one that sees the prompt: the published way
    Cond,
    /// The one that does not
    Uncond,
    /// Both
    Both,
}

/// Which tokens a row sees next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FeedChoice {
    /// Its own: it goes on freely
    Own,
    /// Those of the run without intervention
    Clean,
    /// The conditional half sees those of the first of 48 rows, as the published code has it
    Published,
}

fn parse_steps(text: &str) -> Result<Range<usize>, String> {
    let range = text.split_once("..").and_then(|(start, end)| Some(start.parse().ok()?..end.parse().ok()?));
    range.filter(|range| !range.is_empty()).ok_or_else(|| "steps look like `50..100`, the end not included".to_owned())
}

impl InterveneArgs {
    /// Files of prompts that stand for concepts.
    pub(super) fn inputs(&self) -> Inputs {
        let file = |name: &String| name.split_once('=').map_or(name.as_str(), |(path, _)| path).to_owned();
        Inputs::new(self.from.iter().chain(&self.to).map(file))
    }

    pub(super) fn check(&self) -> Result<()> {
        self.study.sampling.check(self.study.duration)?;
        if self.concepts.prompts_per_concept == 0 {
            return Err(Misuse::new("0 prompts per concept, expected 1 or more").into());
        }
        if !self.all_pairs && (self.from.is_none() || self.to.is_none()) {
            let misuse = Misuse::new("no pair of concepts");
            return Err(misuse.hint("give one with `--from` and `--to`, or take `--all-pairs`").into());
        }
        if self.rows == 0 {
            return Err(Misuse::new("0 rows, expected 1 or more").into());
        }
        if !self.scale.is_finite() {
            return Err(Misuse::new("a scale that is not a number").into());
        }
        Ok(())
    }

    /// What is to be done; model and judge are not known yet.
    pub(super) fn plan(
        &self,
        set: &ConceptSet,
        labels: &Labels,
        found: &FoundModel,
        how: &Generate,
    ) -> Result<InterventionPlan> {
        let config = &found.files.config.decoder;
        if self.branch != BranchChoice::Cond && how.guidance == 1.0 {
            return Err(Misuse::new("without guidance there is no unconditional half to change").into());
        }
        for site in &self.sites {
            site.parse::<Site>().map_err(|error| Misuse::new(error.to_string()))?;
        }
        let (concepts, pairs) = self.pairs(set, labels)?;
        let layers = self.layers.expand(0..config.num_hidden_layers)?;
        Ok(InterventionPlan {
            command: InterventionPlan::COMMAND.to_owned(),
            basis: Basis {
                model: vec![],
                layers: config.num_hidden_layers,
                width: config.hidden_size,
                judge: None,
                dtype: String::new(),
                weights: String::new(),
                frames: how.frames,
                frame_rate: found.files.config.audio_encoder.frame_rate(),
                guidance: how.guidance,
                sampling: how.sampling,
            },
            techniques: self.techniques()?,
            sites: self.sites.clone(),
            layers,
            heads: config.num_attention_heads,
            branch: match self.branch {
                BranchChoice::Cond => Some(Branch::Cond),
                BranchChoice::Uncond => Some(Branch::Uncond),
                BranchChoice::Both => None,
            },
            feed: match self.feed {
                FeedChoice::Own => Feed::Own,
                FeedChoice::Clean => Feed::Clean,
                FeedChoice::Published => Feed::Published,
            },
            scale: self.scale,
            steps: self.steps.clone(),
            controls: self.controls,
            seed: self.study.sampling.seed,
            concepts,
            pairs,
            prompts: if self.prompt.is_empty() { None } else { Some(self.prompt.clone()) },
            extremes: self.save_extremes,
            tokens: self.study.tokens,
            second: None,
        })
    }

    fn techniques(&self) -> Result<Vec<Technique>, Misuse> {
        let mut techniques = vec![];
        for name in &self.technique {
            let technique = match name.as_str() {
                "replace" => Technique::Replace,
                "adjust" => Technique::Adjust,
                _ => return Err(Misuse::new(format!("no technique `{name}`; there are `replace` and `adjust`"))),
            };
            if !techniques.contains(&technique) {
                techniques.push(technique);
            }
        }
        Ok(techniques)
    }

    /// The concepts that take part, and the pairs.
    #[expect(clippy::type_complexity, reason = "concepts, and pairs of their indices")]
    fn pairs(&self, set: &ConceptSet, labels: &Labels) -> Result<(Vec<PlannedConcept>, Vec<(usize, usize)>)> {
        if self.all_pairs {
            let concepts: Vec<PlannedConcept> = self
                .concepts
                .prompts(set)?
                .into_iter()
                .map(|(concept, prompts)| planned(concept, prompts, labels))
                .collect::<Result<_>>()?;
            let indices = 0..concepts.len();
            let pairs = indices.clone().flat_map(|from| indices.clone().map(move |to| (from, to)));
            let pairs: Vec<(usize, usize)> = pairs.filter(|(from, to)| from != to).collect();
            if pairs.is_empty() {
                return Err(Misuse::new("one concept makes no pair").into());
            }
            return Ok((concepts, pairs));
        }
        let (Some(from), Some(to)) = (&self.from, &self.to) else { unreachable!("`check` has asked for both") };
        let concepts = vec![self.concept(set, labels, from)?, self.concept(set, labels, to)?];
        if concepts[0].name == concepts[1].name {
            return Err(Misuse::new(format!("`{from}` cannot be both the original and the desired concept")).into());
        }
        Ok((concepts, vec![(0, 1)]))
    }

    /// A concept by name, or from a file of prompts.
    fn concept(&self, set: &ConceptSet, labels: &Labels, name: &str) -> Result<PlannedConcept> {
        let (path, class) = name.split_once('=').map_or((name, None), |(path, class)| (path, Some(class)));
        let path = std::path::Path::new(path);
        if set.concepts.iter().any(|concept| concept.name == name) || !path.is_file() {
            let concept = set.concept(name)?;
            return planned(concept, set.prompts(concept, self.concepts.prompts_per_concept)?, labels);
        }
        let mut prompts = prompt_file::read(path)?;
        prompts.truncate(self.concepts.prompts_per_concept);
        let stem = path.file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned());
        Ok(PlannedConcept {
            name: stem,
            category: String::new(),
            class: class.map(|class| labels.index_of(class)).transpose()?,
            published: None,
            prompts,
        })
    }
}

fn planned(concept: &Concept, prompts: Vec<String>, labels: &Labels) -> Result<PlannedConcept> {
    Ok(PlannedConcept {
        name: concept.name.clone(),
        category: concept.slot.clone(),
        class: Some(concept.class(Indices::ByLabel, labels)?),
        published: concept.index.filter(|&index| index < labels.len()),
        prompts,
    })
}
