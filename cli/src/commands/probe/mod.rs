//! `tonoscope probe`

mod distances;
mod figures;
mod inputs;
mod plan;
mod plane;
mod results;
mod routes;
mod unit;

use std::{io::Write, path::PathBuf};

use anyhow::{Result, bail};
use tonoscope_core::musicologist::Vocabulary;

use self::{
    inputs::Inputs,
    plan::{Classifier, Frames, PlannedConcept, Settings},
};
pub(crate) use self::{plan::ProbePlan, results::finish};
use crate::{
    failure::Misuse,
    files::{self, OutputFolder},
    interrupt::{self, Interrupted},
    job::JobArgs,
    progress,
    study::unfinished,
    units::Units,
};

/// Follow concepts along a diffusion trajectory
///
/// For every concept, classifiers learn from the embeddings of notes and judge what was generated, step by step. There are
/// tables in the published form, with balanced accuracy, AUROC, baselines and 95 % intervals, figures, and an animation of
/// the plane of the principal components. With `--features` and `--labels` the same is done with any embeddings.
#[derive(Debug, clap::Args)]
pub(crate) struct ProbeArgs {
    /// Folder of concepts: `CONCEPT.csv` and `embeddings.safetensors`, or published `*_embeddings.pt`
    #[arg(long, value_name = "FOLDER", required_unless_present = "features")]
    concepts: Option<PathBuf>,
    /// Folder of embeddings of what was generated: `diff_step_N.safetensors`, or published `*_embeddings.pt`
    #[arg(long, value_name = "FOLDER", conflicts_with = "features")]
    embeddings: Option<PathBuf>,
    /// What the prompts ask for, `annotations.json`
    #[arg(long, value_name = "FILE", required_unless_present = "features", conflicts_with = "features")]
    annotations: Option<PathBuf>,
    /// Embeddings of any origin, `[rows, features]`, in place of these folders
    #[arg(long, value_name = "FILE", requires = "labels", conflicts_with = "concepts")]
    features: Option<PathBuf>,
    /// CSV with a line per row of `--features`: `label` (1 or 0), and if need be `step`, for rows that are judged alone,
    /// `group`, for rows that belong together, and `split` (`train` or `test`)
    #[arg(long, value_name = "FILE", requires = "features")]
    labels: Option<PathBuf>,
    /// Concepts, such as `is_guitar,is_warm` [default: all that have notes]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "features")]
    only: Vec<String>,
    /// Own tables of concepts in TOML [default: the 28 published ones]
    #[arg(long, value_name = "FILE", conflicts_with = "features")]
    tables: Option<PathBuf>,
    /// How the words of a concept are found in what prompts ask for
    #[arg(long, value_enum, default_value_t = VocabularyName::Published)]
    vocabulary: VocabularyName,
    /// Classifiers
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Classifier::Logistic, Classifier::Svm])]
    classifiers: Vec<Classifier>,
    /// Share of the notes that is tested on
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    test_share: f64,
    /// What is set aside for the test: single notes, as published, or all notes of some instruments, which says more
    #[arg(long, value_enum, default_value_t = HoldOut::Notes)]
    hold_out: HoldOut,
    /// JSON of rows to learn from and to be tested on, by concept, in place of a division by seed
    #[arg(long, value_name = "FILE")]
    split: Option<PathBuf>,
    /// Latents of `diffuse --keep-latents`: linear probes on them are compared with the embeddings
    #[arg(long, value_name = "FOLDER", conflicts_with = "features")]
    latents: Option<PathBuf>,
    /// Files of captured activations, or folders of them: the same
    #[arg(long, value_name = "PATHS", num_args = 1.., conflicts_with = "features")]
    capture: Vec<PathBuf>,
    /// Parts that are left out in turn when latents and activations are compared
    #[arg(long, default_value_t = 5)]
    folds: usize,
    /// Draws behind each interval
    #[arg(long, value_name = "N", default_value_t = 1000)]
    resamples: usize,
    /// Steps that are drawn as pictures in the plane of the principal components, beside the animation
    #[arg(long, value_enum, default_value_t = Frames::All)]
    frames: Frames,
    /// Seed of the division of notes, and of the intervals
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    job: JobArgs,
    /// Folder for the results; a run that was stopped goes on where it was
    #[arg(long, default_value = "probe")]
    out: PathBuf,
    /// Start anew in a folder that holds the results of other settings
    #[arg(long)]
    overwrite: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// Check everything and say what would be done, but do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum HoldOut {
    /// Any notes
    Notes,
    /// Whole instruments; of `--features`, whole groups
    Instruments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum VocabularyName {
    /// As published: anywhere in the list as Python prints it
    Published,
    /// As meant: whole words, the same for notes and prompts
    Corrected,
}

impl From<VocabularyName> for Vocabulary {
    fn from(name: VocabularyName) -> Self {
        match name {
            VocabularyName::Published => Self::Published,
            VocabularyName::Corrected => Self::Corrected,
        }
    }
}

pub(crate) fn run(args: &ProbeArgs, out: &mut dyn Write) -> Result<()> {
    args.check()?;
    let job = args.job.job()?;
    interrupt::listen();
    let inputs = Inputs::read(args)?;
    let plan = args.plan(&inputs);
    for concept in &plan.concepts {
        if let Some(obstacle) = &concept.obstacle {
            progress::note(&format!("`{}`: {obstacle}", concept.name));
        }
    }
    if args.dry_run {
        let (concepts, steps) = (plan.concepts.len(), plan.steps.len());
        writeln!(out, "would probe {concepts} concepts over {steps} steps into `{}`", args.out.display())?;
        return Ok(());
    }
    let folder = OutputFolder::begin(&args.out, &files::Inputs::new(args.paths()))?;
    folder.refuse_inputs(["run.json", "concept_results.json", "concept_results.csv", "notes.csv", "summary.csv"])?;
    let units = Units::open(&folder, &serde_json::to_value(&plan)?, args.overwrite)?;
    let names = plan.units();
    let share = job.share(names.len(), "concepts");
    let todo: Vec<usize> = share.filter(|&index| !units.has(&names[index])).collect();
    let ticks = plan.settings.classifiers.len() + plan.routes.len();
    let bar = progress::steps((todo.len() * ticks) as u64, "probing", "classifiers");
    for index in todo {
        let bytes = match plan.concepts.get(index) {
            Some(_) => {
                let concept = inputs.concept(index)?;
                let unit = concept.work(&plan.settings, &mut || {
                    bar.inc(1);
                    if interrupt::asked() {
                        bail!(Interrupted::Resumable)
                    }
                    Ok(())
                });
                let stopped = |error| units.interrupted(error, names.iter().cloned(), "parts");
                serde_json::to_vec(&unit.map_err(stopped)?)?
            }
            None => serde_json::to_vec(&distances::between(&inputs.tensors()))?,
        };
        units.write(&names[index], &bytes)?;
    }
    bar.finish_and_clear();
    if unfinished(&units, names.into_iter(), "parts", &args.out, out)? {
        return Ok(());
    }
    finish(&plan, &units, &folder, args.json, out)
}

impl ProbeArgs {
    fn check(&self) -> Result<()> {
        if !(self.test_share > 0.0 && self.test_share < 1.0) {
            return Err(Misuse::new(format!(
                "a test share of {}, expected more than 0 and less than 1",
                self.test_share
            ))
            .into());
        }
        if self.folds < 2 {
            return Err(Misuse::new(format!("{} folds, expected 2 or more", self.folds)).into());
        }
        if self.embeddings.is_none() && self.features.is_none() && self.latents.is_none() && self.capture.is_empty() {
            let misuse = Misuse::new("nothing that was generated");
            return Err(misuse.hint("pass `--embeddings`, or `--latents` or `--capture`").into());
        }
        self.paths().try_for_each(|path| inputs::exists(path))
    }

    /// Files and folders that are read.
    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let paths = [
            &self.concepts,
            &self.embeddings,
            &self.annotations,
            &self.features,
            &self.labels,
            &self.split,
            &self.tables,
        ];
        paths.into_iter().flatten().chain(&self.latents).chain(&self.capture)
    }

    fn instruments_apart(&self) -> bool {
        self.hold_out == HoldOut::Instruments
    }

    fn plan(&self, inputs: &Inputs) -> ProbePlan {
        let mut classifiers = self.classifiers.clone();
        classifiers.dedup();
        let planned = inputs.concepts.iter().map(|concept| {
            let (positives, negatives) = concept.notes.counts();
            let obstacle = concept.obstacle(self.instruments_apart());
            PlannedConcept { name: concept.name.clone(), positives, negatives, obstacle }
        });
        ProbePlan {
            command: ProbePlan::COMMAND.to_owned(),
            settings: Settings {
                classifiers,
                seed: self.seed,
                test_share: self.test_share,
                instruments_apart: self.instruments_apart(),
                resamples: self.resamples,
                folds: self.folds,
                frames: self.frames,
            },
            vocabulary: self.features.is_none().then(|| match self.vocabulary {
                VocabularyName::Published => "published".to_owned(),
                VocabularyName::Corrected => "corrected".to_owned(),
            }),
            concepts: planned.collect(),
            steps: inputs.steps.clone(),
            embed_model: inputs.embed_model.clone(),
            inputs: inputs.read.clone(),
            routes: inputs.routes.clone(),
            distances: inputs.tensors().len() > 1,
        }
    }
}
